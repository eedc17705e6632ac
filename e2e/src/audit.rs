//! The audit trail, read where a collector reads it: in the logs of operator and API server.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::Cluster;
use crate::operator::component_pods;

/// The logs of all Pods of a component, `operator` or `api`, with those of their containers before the last restart.
///
/// # Errors
/// When the Kubernetes API does not answer.
pub async fn logs(cluster: &Cluster, component: &str) -> Result<String> {
    let api: Api<Pod> = cluster.beside_control();
    let mut text = String::new();
    for pod in component_pods(cluster, component).await? {
        for previous in [true, false] {
            let params = LogParams {
                previous,
                ..LogParams::default()
            };
            // Most containers were never restarted, and some have not begun.
            text += &api.logs(&pod.name_any(), &params).await.unwrap_or_default();
        }
    }
    Ok(text)
}

/// The lines of the trail in a log.
///
/// # Errors
/// When a line of the trail is not JSON.
pub fn lines(log: &str) -> Result<Vec<Value>> {
    let lines = log.lines().filter(|line| line.contains(r#""target":"audit""#));
    let lines = lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    lines.collect()
}

/// The lines about an execution, by its uid.
///
/// # Errors
/// When the logs can't be read.
pub async fn lines_of_execution(cluster: &Cluster, uid: &str) -> Result<Vec<Value>> {
    let mut lines = lines(&logs(cluster, "operator").await?)?;
    lines.retain(|line| line["event"] == "execution" && line["uid"] == uid);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_trail_are_read() {
        let log =
            "text\n{\"target\":\"kube\"}\n{\"level\":\"INFO\",\"target\":\"audit\",\"event\":\"request\"}\n";
        let found = lines(log).expect("lines");
        assert_eq!((found.len(), &found[0]["event"]), (1, &Value::from("request")));
        assert!(lines("{\"target\":\"audit\",").is_err());
    }
}
