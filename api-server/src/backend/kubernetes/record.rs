//! A CodeExecution as the API server looks at it afterwards: its metadata and its end, not its code.

use std::borrow::Cow;

use codeexec_crds::{CodeExecution, CodeExecutionStatus, Phase};
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;

/// A CodeExecution without its program, which is skipped while it is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Record {
    /// Whose it is.
    #[serde(default)]
    pub spec: Asked,
    /// Its name, uid and resource version.
    pub metadata: ObjectMeta,
    /// How it stands.
    #[serde(default)]
    pub status: Option<CodeExecutionStatus>,
}

/// What is kept of a spec.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Asked {
    /// Who asked. Nobody where the Kubernetes API named none, which it does not do.
    #[serde(default)]
    pub user: String,
}

impl From<CodeExecution> for Record {
    fn from(execution: CodeExecution) -> Self {
        Self {
            metadata: execution.metadata,
            spec: Asked {
                user: execution.spec.user,
            },
            status: execution.status,
        }
    }
}

impl Record {
    /// Whether its status is an end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(Phase::is_terminal)
    }

    /// Its status, if that is an end.
    #[must_use]
    pub fn into_end(self) -> Option<CodeExecutionStatus> {
        self.status
            .filter(|status| status.phase.is_some_and(Phase::is_terminal))
    }
}

impl Resource for Record {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        CodeExecution::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        CodeExecution::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        CodeExecution::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        CodeExecution::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
