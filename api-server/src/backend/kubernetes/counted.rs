//! The watch that counts: every user's executions, whoever created them, as metadata only.
//!
//! ```text
//!   metadata list, in pages ──▶ watch from its version ──▶ limits
//! ```
//!
//! What goes before its minute is over goes on counting: [`Limits`] forgets by time only.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use codeexec_crds::{ANNOTATION_RECEIVED_AT, LABEL_PHASE, LABEL_USER};
use jiff::{SignedDuration, Timestamp};
use kube::core::{ObjectMeta, PartialObjectMeta};

use super::api::Executions;
use super::follow::{Change, Lost, Standing};
use super::record::Record;
use crate::limits::Limits;

/// How far the clock of the Kubernetes API may be behind ours, or ahead of it, without effect on what a watch
/// shows. What began longer ago than that was labelled late, and counts from its beginning.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(2);

/// The longest that lies between the true time of a creation and its whole second in the metadata.
const CUT_OFF: SignedDuration = SignedDuration::from_millis(999);

/// The watch and whether it stands.
#[derive(Clone, Debug)]
pub struct Counting {
    executions: Executions,
    limits: Arc<Limits>,
    standing: Standing,
}

impl Counting {
    /// A watch that tells `limits`. It does nothing until [`Counting::run`].
    #[must_use]
    pub fn new(executions: Executions, limits: Arc<Limits>) -> Self {
        Self {
            executions,
            limits,
            standing: Standing::new("users' executions"),
        }
    }

    /// Whether nobody would be refused for want of it.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.standing.is_up() || !self.limits.is_wanted()
    }

    /// Watches for ever, once somebody has a quota.
    pub async fn run(self) {
        self.limits.wanted().await;
        self.standing.keep(|| self.attempt()).await;
    }

    /// From a list on until the thread is lost.
    async fn attempt(&self) -> Result<Infallible, Lost> {
        let version = self
            .executions
            .list_counted(|metadata| self.present(metadata, listed_age(metadata, Timestamp::now())))
            .await?;
        self.limits.complete();
        let open = |version: String| {
            let executions = self.executions.clone();
            async move { executions.watch_counted(&version).await }
        };
        let tell = |change: Change<PartialObjectMeta<Record>>| match change {
            Change::Added(object) => {
                let age = added_age(&object.metadata, Timestamp::now());
                self.present(&object.metadata, age);
            }
            Change::Modified(object) if has_ended(&object.metadata) => self.over(&object.metadata),
            Change::Modified(_) => {}
            Change::Deleted(object) => self.over(&object.metadata),
        };
        self.standing.follow(version, open, tell).await
    }

    fn present(&self, metadata: &ObjectMeta, age: Duration) {
        if let Some((user, name)) = named(metadata) {
            self.limits.seen(user, name, age, has_ended(metadata));
        }
    }

    fn over(&self, metadata: &ObjectMeta) {
        if let Some((user, name)) = named(metadata) {
            self.limits.seen_ended(user, name);
        }
    }
}

fn named(metadata: &ObjectMeta) -> Option<(&str, &str)> {
    let user = metadata.labels.as_ref()?.get(LABEL_USER)?;
    Some((user, metadata.name.as_deref()?))
}

fn has_ended(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(LABEL_PHASE))
}

/// How old one is that a list shows: by what the API server noted, to the millisecond, where that is within the
/// second that Kubernetes recorded; otherwise by the end of that second.
fn listed_age(metadata: &ObjectMeta, now: Timestamp) -> Duration {
    let Some(second) = metadata.creation_timestamp.as_ref().map(|time| time.0) else {
        return Duration::ZERO;
    };
    let end_of_second = second.saturating_add(CUT_OFF).unwrap_or(second);
    let noted = metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(ANNOTATION_RECEIVED_AT)?.parse::<Timestamp>().ok());
    let created = noted.map_or(end_of_second, |noted| noted.clamp(second, end_of_second));
    Duration::try_from(now.duration_since(created)).unwrap_or_default()
}

/// How old one is that a watch shows: it came to be this moment, unless its user's label did so only now.
fn added_age(metadata: &ObjectMeta, now: Timestamp) -> Duration {
    let apart = Duration::try_from(CLOCKS_APART + CUT_OFF).unwrap_or_default();
    let age = listed_age(metadata, now);
    if age > apart { age } else { Duration::ZERO }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T00:00:{time}Z").parse().unwrap()
    }

    fn metadata(created: &str, noted: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            creation_timestamp: Some(Time(at(created))),
            annotations: noted.map(|noted| {
                BTreeMap::from([(
                    ANNOTATION_RECEIVED_AT.to_owned(),
                    format!("2026-01-01T00:00:{noted}Z"),
                )])
            }),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_listed_execution_counts_from_its_millisecond_or_from_the_end_of_its_second() {
        for (noted, age_ms) in [
            (Some("10.250"), 9_750),
            // Notes that lie, or that a slow create made old.
            (Some("09.900"), 10_000),
            (Some("30.000"), 9_001),
            (Some("soon"), 9_001),
            (None, 9_001),
        ] {
            let age = listed_age(&metadata("10", noted), at("20"));
            assert_eq!(age, Duration::from_millis(age_ms), "{noted:?}");
        }
        // A clock that is ahead of ours.
        assert_eq!(listed_age(&metadata("30", None), at("20")), Duration::ZERO);
        assert_eq!(listed_age(&ObjectMeta::default(), at("20")), Duration::ZERO);
    }

    #[test]
    fn what_a_watch_shows_counts_from_now_unless_it_was_labelled_late() {
        assert_eq!(added_age(&metadata("10", None), at("12.5")), Duration::ZERO);
        assert_eq!(
            added_age(&metadata("10", None), at("50")),
            Duration::from_millis(39_001)
        );
    }
}
