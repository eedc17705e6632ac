//! What is known of an execution before this process has done anything for it.

use std::time::Duration;

use codeexec_crds::{ANNOTATION_LIVE, ANNOTATION_RECEIVED_AT, CodeExecution, Phase};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::observe::PodView;
use crate::pod;
use crate::records;
use crate::step::{Done, LogState, Observed, PodState};

/// The first observation, and the name of the idle Pod that was claimed for it, if one was.
///
/// A Pod of its own comes before a claimed one: it was only made where the claimed one provably never got the
/// request.
pub(super) fn first_observation(
    execution: &CodeExecution,
    uid: &str,
    mut pods: Vec<PodView>,
) -> (Observed, Option<String>) {
    let status = execution.status.as_ref();
    let recorded = status.and_then(|status| status.pod_name.clone());
    let recorded_attempt = recorded.as_ref().and_then(|name| pod::attempt(uid, name));
    let newest = pods.iter().filter_map(|view| pod::attempt(uid, &view.name)).max();
    let own = newest.max(recorded_attempt);
    let claimed = match own {
        Some(_) => None,
        None => recorded.or_else(|| pods.first().map(|view| view.name.clone())),
    };
    let attempt = own.unwrap_or(0);
    let name = claimed.clone().unwrap_or_else(|| pod::name(uid, attempt));
    // Nothing can have been sent to a Pod of its own whose name was never recorded.
    let taken_over = claimed.is_some() || (own.is_some() && recorded_attempt == Some(attempt));
    let pod = match pods.iter().position(|view| view.name == name) {
        Some(at) => PodState::Exists(Box::new(pods.swap_remove(at))),
        None if taken_over => PodState::Gone(None),
        None => PodState::NotCreated,
    };
    let observed = Observed {
        gone: execution.metadata.deletion_timestamp.is_some(),
        finished: records::is_finished(execution),
        cancel: execution.spec.cancel,
        violation: codeexec_execution::validate(&execution.spec)
            .err()
            .map(|violation| violation.to_string()),
        timeout: Duration::from_secs(u64::from(execution.spec.timeout_seconds.unsigned_abs())),
        live: execution.annotations().contains_key(ANNOTATION_LIVE),
        pod,
        done: Done {
            recorded: taken_over,
            taken_over,
            attempt,
            log: LogState::Unread,
            running_recorded: status.and_then(|status| status.phase) == Some(Phase::Running),
            ..Done::default()
        },
        ..Observed::default()
    };
    (observed, claimed)
}

/// Whether nobody has begun it, and nothing stands against it yet. The policy is asked only then: an earlier process may
/// have let a program run under another one.
pub(super) fn is_untouched(observed: &Observed) -> bool {
    let begun = observed.done.taken_over || observed.pod != PodState::NotCreated;
    let over = observed.gone || observed.finished || observed.cancel;
    !begun && !over && observed.violation.is_none()
}

/// How long an execution has waited before this process saw it.
///
/// Its creation is known to the second only. The API server's own mark is exact, and believed as far as it agrees with
/// that: it is of another node's clock, or of whoever applied the object by hand.
pub(super) fn waited_before(metadata: &ObjectMeta, now: Timestamp) -> Duration {
    let Some(created) = metadata.creation_timestamp.as_ref().map(|time| time.0) else {
        return Duration::ZERO;
    };
    let mark = metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(ANNOTATION_RECEIVED_AT));
    let mark = mark.and_then(|mark| mark.parse::<Timestamp>().ok());
    let agrees = |mark: &Timestamp| created.duration_since(*mark).abs() <= SignedDuration::from_secs(1);
    let since = mark.filter(agrees).unwrap_or(created);
    now.duration_since(since).try_into().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value)] // the calls read better
    fn execution(status: serde_json::Value) -> CodeExecution {
        let object = json!({"apiVersion": "codeexec.dev/v1alpha1", "kind": "CodeExecution",
            "metadata": {"name": "e", "uid": "u"}, "spec": {"code": "1", "language": "python", "user": "u"},
            "status": status});
        serde_json::from_value(object).expect("a CodeExecution")
    }

    fn pod(name: &str) -> PodView {
        PodView {
            name: name.to_owned(),
            execution_uid: Some("u".to_owned()),
            ..PodView::default()
        }
    }

    #[test]
    fn the_wait_before_is_told_to_the_millisecond_where_the_mark_can_be_believed() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let waited = |mark: Option<&str>| {
            let metadata = ObjectMeta {
                creation_timestamp: Some(Time(at("2026-01-01T00:00:05Z"))),
                annotations: mark.map(|mark| [(ANNOTATION_RECEIVED_AT.to_owned(), mark.to_owned())].into()),
                ..ObjectMeta::default()
            };
            waited_before(&metadata, at("2026-01-01T00:00:05.930Z")).as_millis()
        };
        assert_eq!(waited(Some("2026-01-01T00:00:05.920Z")), 10);
        assert_eq!(waited(Some("2026-01-01T00:00:04.999Z")), 931);
        assert_eq!(waited(Some("2026-01-01T00:00:05.940Z")), 0);
        for unbelievable in [None, Some("2025-01-01T00:00:00Z"), Some("soon")] {
            assert_eq!(waited(unbelievable), 930);
        }
    }

    #[test]
    fn a_new_execution_has_no_pod() {
        let (observed, claimed) = first_observation(&execution(json!({})), "u", vec![]);
        assert!(is_untouched(&observed));
        assert_eq!((observed.pod, claimed), (PodState::NotCreated, None));
        assert!(!observed.done.taken_over);
    }

    #[test]
    fn a_claimed_pod_is_taken_over_whether_it_was_recorded_or_not() {
        for status in [json!({}), json!({"podName": "idle-1"})] {
            let (observed, claimed) = first_observation(&execution(status), "u", vec![pod("idle-1")]);
            assert_eq!(claimed.as_deref(), Some("idle-1"));
            assert!(matches!(observed.pod, PodState::Exists(_)));
            assert!(observed.done.taken_over && observed.done.recorded);
            assert!(!is_untouched(&observed));
        }
    }

    #[test]
    fn a_claimed_pod_that_was_recorded_and_is_gone_is_not_forgotten() {
        let (observed, claimed) = first_observation(&execution(json!({"podName": "idle-1"})), "u", vec![]);
        assert_eq!(
            (observed.pod, claimed.as_deref()),
            (PodState::Gone(None), Some("idle-1"))
        );
    }

    #[test]
    fn a_pod_of_its_own_comes_before_a_claimed_one() {
        let pods = vec![pod("idle-1"), pod("exec-u-1")];
        let (observed, claimed) = first_observation(&execution(json!({})), "u", pods);
        assert_eq!((observed.done.attempt, claimed), (1, None));
        assert!(!observed.done.taken_over);
    }
}
