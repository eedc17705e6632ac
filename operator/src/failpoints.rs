//! Named steps at which a test build of the operator can be made to die.
//!
//! The annotation `codeexec.dev/failpoint: NAME@HOLDER` on a CodeExecution makes the process that holds the
//! Lease as HOLDER exit at that step of that execution. A restarted process is another holder, so it fires once.
//! Without the cargo feature `failpoints` nothing of this exists.

/// Every named step, in the order of an execution's life.
pub const NAMES: [&str; 14] = [
    "before-pod-create",
    "after-pod-create",
    "before-attach",
    "after-attach",
    "before-frame",
    "mid-frame",
    "after-frame",
    "after-started",
    "before-running-write",
    "after-running-write",
    "before-result-write",
    "after-result-write",
    "before-labels",
    "before-pod-delete",
];

/// Named steps of an execution that gets an idle Pod, besides those from `before-frame` on.
pub const CLAIM_NAMES: [&str; 2] = ["before-claim", "after-claim"];

/// Annotation that names a step and the process that is to die there.
pub const ANNOTATION: &str = "codeexec.dev/failpoint";

/// The step that one execution is to die at, if this process is meant.
#[derive(Clone, Debug, Default)]
pub struct Failpoint {
    #[cfg(feature = "failpoints")]
    name: Option<String>,
}

impl Failpoint {
    /// What the annotation of an execution asks of the process `holder`.
    #[must_use]
    #[cfg_attr(not(feature = "failpoints"), allow(unused_variables))]
    pub fn of(metadata: &kube::api::ObjectMeta, holder: &str) -> Self {
        #[cfg(feature = "failpoints")]
        {
            let name = metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(ANNOTATION))
                .and_then(|value| value.split_once('@'))
                .filter(|(_, meant)| *meant == holder)
                .map(|(name, _)| name.to_owned());
            Self { name }
        }
        #[cfg(not(feature = "failpoints"))]
        Self {}
    }

    /// Whether this is the step to die at.
    #[must_use]
    #[cfg_attr(not(feature = "failpoints"), allow(unused_variables, clippy::unused_self))]
    pub fn is(&self, name: &str) -> bool {
        #[cfg(feature = "failpoints")]
        {
            debug_assert!(
                NAMES.contains(&name) || CLAIM_NAMES.contains(&name),
                "{name} is not a failpoint"
            );
            self.name.as_deref() == Some(name)
        }
        #[cfg(not(feature = "failpoints"))]
        false
    }

    /// Dies here if this is the step.
    pub fn hit(&self, name: &str) {
        if self.is(name) {
            self.die(name);
        }
    }

    /// Dies. As PID 1 of its container the process could not kill itself by a signal.
    #[allow(clippy::unused_self)]
    pub fn die(&self, name: &str) {
        tracing::error!(failpoint = name, "failpoint reached");
        std::process::exit(137);
    }
}
