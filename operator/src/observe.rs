//! What of a Pod matters to the next step, read off the object once.

use std::time::Duration;

use codeexec_crds::{ANNOTATION_OPERATOR, ANNOTATION_READY_SINCE, LABEL_EXECUTION, LABEL_TEMPLATE};
use codeexec_execution::outcome::End;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A Pod, pruned to what decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// The execution it serves, by its label.
    pub execution_uid: Option<String>,
    /// Name of the CodeExecution that owns it.
    pub owner: Option<String>,
    /// The node it is bound to; from then on it can be attached to.
    pub node: Option<String>,
    /// When the kubelet took it up: what its deadline counts from.
    pub start_time: Option<Timestamp>,
    /// Whether its container can't run any more.
    pub ended: bool,
    /// Whether it counts as failed while its container is still being stopped.
    pub failing: bool,
    /// Whether somebody deleted it.
    pub deleting: bool,
    /// Why its image does not come, in the kubelet's words.
    pub image_error: Option<String>,
    /// Why its container can't be made or started, in the kubelet's words.
    pub start_error: Option<String>,
    /// Why no node takes it, in the scheduler's words.
    pub unschedulable: Option<String>,
    /// How its container ended.
    pub terminated: Option<Terminated>,
    /// What ended it from outside, as far as it shows.
    pub cause: Option<End>,
    /// Its image, as its spec names it.
    pub image: Option<String>,
    /// Its image, by digest where the runtime says it.
    pub image_id: Option<String>,
    /// Its RuntimeClass.
    pub runtime_class: Option<String>,
    /// Its version, for writes that must not meet another one.
    pub resource_version: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Seconds since its start after which the kubelet ends it.
    pub deadline_seconds: Option<i64>,
    /// Fingerprint of what an idle Pod was made from.
    pub template: Option<String>,
    /// The operator's process that may claim it, as long as it is idle.
    pub operator: Option<String>,
    /// Whether it says that it is ready.
    pub marked_ready: bool,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminated {
    /// Exit code of PID 1, the runner.
    pub exit_code: i32,
    /// What the runner left in its termination log.
    pub message: Option<String>,
}

impl PodView {
    /// How long the Pod's deadline has been running, or will have been at most: it counts from the start, which
    /// comes after the creation.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        let since = self.start_time.or(self.created).unwrap_or(now);
        now.duration_since(since).try_into().unwrap_or(Duration::ZERO)
    }

    /// Whether it is an idle Pod of a pool, in no execution's hands.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.execution_uid.is_none() && self.template.is_some()
    }

    /// Keeps what ended the Pod: a later status can lack it, from a kubelet that had not heard of it yet. That the
    /// Pod is being deleted says less than why.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        if matches!(self.cause, None | Some(End::PodDeleted)) {
            self.cause = before.cause.clone().or(self.cause);
        }
        self.failing |= before.failing && !self.ended;
        self
    }
}

impl From<&Pod> for PodView {
    fn from(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name);
        let spec = pod.spec.as_ref();
        let status = pod.status.clone().unwrap_or_default();
        let container = status.container_statuses.iter().flatten().next();
        let state = container.and_then(|container| container.state.as_ref());
        let terminated = state.and_then(|state| state.terminated.as_ref());
        let phase_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        // The kubelet calls a Pod past its deadline Failed before it has stopped the container, whose last
        // words still count.
        let runs = state.is_some_and(|state| state.running.is_some());
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            execution_uid: label(metadata, LABEL_EXECUTION),
            owner: metadata
                .owner_references
                .iter()
                .flatten()
                .next()
                .map(|owner| owner.name.clone()),
            node: spec.and_then(|spec| spec.node_name.clone()),
            start_time: status.start_time.as_ref().map(|time| time.0),
            ended: terminated.is_some() || (phase_ended && !runs),
            failing: phase_ended && runs,
            deleting: metadata.deletion_timestamp.is_some(),
            image_error: container.and_then(image_error),
            start_error: container.and_then(start_error),
            unschedulable: unschedulable(&status),
            terminated: terminated.map(|terminated| Terminated {
                exit_code: terminated.exit_code,
                message: terminated.message.clone(),
            }),
            cause: cause(
                &status,
                terminated.and_then(|terminated| terminated.reason.as_deref()),
            )
            .or_else(|| metadata.deletion_timestamp.is_some().then_some(End::PodDeleted)),
            image: spec.and_then(|spec| spec.containers.first()?.image.clone()),
            image_id: container
                .map(|container| container.image_id.clone())
                .filter(|id| !id.is_empty()),
            runtime_class: spec.and_then(|spec| spec.runtime_class_name.clone()),
            resource_version: metadata.resource_version.clone(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            deadline_seconds: spec.and_then(|spec| spec.active_deadline_seconds),
            template: label(metadata, LABEL_TEMPLATE),
            operator: annotation(ANNOTATION_OPERATOR).cloned(),
            marked_ready: annotation(ANNOTATION_READY_SINCE).is_some(),
        }
    }
}

fn label(metadata: &ObjectMeta, name: &str) -> Option<String> {
    metadata.labels.as_ref()?.get(name).cloned()
}

/// Why a container's image does not come. The kubelet goes on trying but for the reasons that can't mend.
fn image_error(container: &ContainerStatus) -> Option<String> {
    const REASONS: [&str; 7] = [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    ];
    waits_because_of(container, &REASONS)
}

/// Why a container can't be made of its image. The kubelet goes on trying.
fn start_error(container: &ContainerStatus) -> Option<String> {
    const REASONS: [&str; 5] = [
        "CreateContainerConfigError",
        "CreateContainerError",
        "PreCreateHookError",
        "RunContainerError",
        "CrashLoopBackOff",
    ];
    waits_because_of(container, &REASONS)
}

/// The message, or else the reason, of a container that waits for one of these reasons.
fn waits_because_of(container: &ContainerStatus, reasons: &[&str]) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    reasons
        .contains(&reason)
        .then(|| waiting.message.clone().unwrap_or_else(|| reason.to_owned()))
}

fn unschedulable(status: &PodStatus) -> Option<String> {
    let condition = condition(status, "PodScheduled")?;
    let waits = condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable");
    waits.then(|| condition.message.clone().unwrap_or_default())
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> Option<&'a PodCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
}

/// What ended a Pod from outside.
///
/// DisruptionTarget comes before the Pod goes, from whoever takes it away; the Pod's own reason comes from the
/// kubelet, or from the node controller for a node that no longer answers.
fn cause(status: &PodStatus, container_reason: Option<&str>) -> Option<End> {
    let message = status.message.clone().unwrap_or_default();
    match status.reason.as_deref() {
        Some("Evicted" | "Preempting" | "Terminated") => return Some(End::Evicted(message)),
        Some("NodeLost" | "NodeShutdown" | "Shutdown" | "NodeAffinity") => {
            return Some(End::NodeLost(message));
        }
        Some("DeadlineExceeded") => return Some(End::PodDeadline),
        _ => {}
    }
    if let Some(disruption) =
        condition(status, "DisruptionTarget").filter(|condition| condition.status == "True")
    {
        let message = disruption.message.clone().unwrap_or_default();
        return Some(match disruption.reason.as_deref() {
            Some("DeletionByTaintManager" | "DeletionByPodGC") => End::NodeLost(message),
            _ => End::Evicted(message),
        });
    }
    (container_reason == Some("OOMKilled")).then_some(End::OutOfMemory)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value)] // the calls read better
    fn view(status: serde_json::Value) -> PodView {
        let pod = json!({"metadata": {"name": "exec-u"}, "spec": {"containers": []}, "status": status});
        PodView::from(&serde_json::from_value::<Pod>(pod).expect("a Pod"))
    }

    #[test]
    fn a_pod_without_a_status_is_neither_bound_nor_ended() {
        let view = view(json!({}));
        assert!(view.node.is_none() && !view.ended && view.cause.is_none());
    }

    #[test]
    fn each_way_to_lose_a_pod_is_told_apart() {
        let cause = |status| view(status).cause.map(|end| std::mem::discriminant(&end));
        let is = |end: End| Some(std::mem::discriminant(&end));
        assert_eq!(
            cause(json!({"phase": "Failed", "reason": "Evicted"})),
            is(End::Evicted(String::new()))
        );
        assert_eq!(
            cause(json!({"phase": "Failed", "reason": "DeadlineExceeded"})),
            is(End::PodDeadline)
        );
        assert_eq!(
            cause(json!({"phase": "Running", "reason": "NodeLost"})),
            is(End::NodeLost(String::new()))
        );
        let disruption = |reason: &str| json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]});
        assert_eq!(
            cause(disruption("EvictionByEvictionAPI")),
            is(End::Evicted(String::new()))
        );
        assert_eq!(
            cause(disruption("DeletionByTaintManager")),
            is(End::NodeLost(String::new()))
        );
        let killed = json!({"phase": "Failed", "containerStatuses": [{
            "name": "executor", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
        assert_eq!(cause(killed), is(End::OutOfMemory));
    }

    #[test]
    fn a_pod_that_was_evicted_stays_so_whatever_its_kubelet_writes_next() {
        let running = json!({"name": "executor", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}}});
        let evicted = view(json!({"phase": "Failed", "reason": "Evicted", "containerStatuses": [running]}));
        assert!(evicted.failing && !evicted.ended);
        let later = view(json!({"phase": "Running", "containerStatuses": [running]})).after(&evicted);
        assert!(later.failing && matches!(later.cause, Some(End::Evicted(_))));
        let deleted = json!({"metadata": {"name": "exec-u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": []}, "status": {"phase": "Running", "containerStatuses": [running]}});
        let deleted = PodView::from(&serde_json::from_value::<Pod>(deleted).expect("a Pod"));
        assert_eq!(deleted.cause, Some(End::PodDeleted));
        assert!(matches!(deleted.after(&later).cause, Some(End::Evicted(_))));
    }

    #[test]
    fn an_image_that_does_not_come_shows_with_the_kubelet_s_words() {
        let status = json!({"phase": "Pending", "containerStatuses": [{
            "name": "executor", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}}]});
        assert_eq!(view(status).image_error.as_deref(), Some("no such host"));
    }

    #[test]
    fn a_container_that_can_not_be_made_shows_with_the_kubelet_s_words() {
        let status = json!({"phase": "Pending", "containerStatuses": [{
            "name": "executor", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "CreateContainerError", "message": "no command specified"}}}]});
        let view = view(status);
        assert_eq!(view.start_error.as_deref(), Some("no command specified"));
        assert_eq!(view.image_error, None);
    }

    #[test]
    fn a_pod_that_no_node_takes_shows_with_the_scheduler_s_words() {
        let status = json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
        assert_eq!(view(status).unschedulable.as_deref(), Some("0/1 nodes"));
    }
}
