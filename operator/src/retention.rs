//! Finished records: seen as metadata only, deleted when their time is over or there are too many.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use codeexec_crds::{ANNOTATION_EXPIRES_AT, CodeExecution, LABEL_PHASE, Phase};
use codeexec_execution::user_hash;
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, Preconditions};
use tracing::{debug, warn};

use crate::connection::{CallError, call};
use crate::driver::Context;
use crate::records::label_finished;
use crate::watch::{self, Change};

/// How often records are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Most deletions a look: each is one write to etcd, and executions come first.
const DELETIONS_A_LOOK: usize = 50;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    at: Timestamp,
    name: String,
    uid: String,
}

/// The finished records, in the orders in which they go.
#[derive(Debug, Default)]
struct Records {
    by_name: HashMap<String, (Record, Record)>,
    by_expiry: BTreeSet<Record>,
    by_age: BTreeSet<Record>,
}

impl Records {
    fn insert(&mut self, metadata: &ObjectMeta) {
        let (Some(name), Some(uid)) = (metadata.name.clone(), metadata.uid.clone()) else {
            return;
        };
        self.remove(&name);
        let expires = metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(ANNOTATION_EXPIRES_AT))
            .and_then(|text| text.parse().ok());
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        let record = |at: Option<Timestamp>, missing| Record {
            at: at.unwrap_or(missing),
            name: name.clone(),
            uid: uid.clone(),
        };
        // An annotation that somebody spoiled keeps a record until there are too many, rather than deleting it.
        let (by_expiry, by_age) = (record(expires, Timestamp::MAX), record(created, Timestamp::MIN));
        self.by_expiry.insert(by_expiry.clone());
        self.by_age.insert(by_age.clone());
        self.by_name.insert(name, (by_expiry, by_age));
    }

    fn remove(&mut self, name: &str) {
        if let Some((by_expiry, by_age)) = self.by_name.remove(name) {
            self.by_expiry.remove(&by_expiry);
            self.by_age.remove(&by_age);
        }
    }

    /// What is to go now: all that expired, then the oldest beyond the bound.
    fn due(&self, now: Timestamp, max: usize) -> Vec<Record> {
        let expired = self.by_expiry.iter().take_while(|record| record.at <= now);
        let surplus = self.by_age.iter().take(self.by_name.len().saturating_sub(max));
        expired.chain(surplus).take(DELETIONS_A_LOOK).cloned().collect()
    }
}

/// Deletes finished records in their time, for ever.
pub async fn run(context: Arc<Context>) {
    label_what_was_left(&context).await;
    let mut changes = pin!(watch::finished(context.records.clone()));
    let mut records = Records::default();
    let mut listing: Option<Records> = None;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(change) = changes.next() => apply(change, &mut records, &mut listing),
            _ = look.tick() => delete_due(&context, &mut records).await,
        }
    }
}

fn apply(
    change: Change<PartialObjectMeta<CodeExecution>>,
    records: &mut Records,
    listing: &mut Option<Records>,
) {
    match change {
        Change::Restarted => *listing = Some(Records::default()),
        Change::Present(object) => listing.as_mut().unwrap_or(records).insert(&object.metadata),
        Change::Gone(object) => {
            listing
                .as_mut()
                .unwrap_or(records)
                .remove(object.metadata.name.as_deref().unwrap_or_default());
        }
        Change::Listed => {
            if let Some(listed) = listing.take() {
                *records = listed;
            }
        }
    }
}

async fn delete_due(context: &Context, records: &mut Records) {
    let max = usize::try_from(context.settings.max_finished).unwrap_or(usize::MAX);
    for record in records.due(Timestamp::now(), max) {
        // The uid guards against a new object of the same name.
        let preconditions = Some(Preconditions {
            uid: Some(record.uid.clone()),
            resource_version: None,
        });
        let params = DeleteParams {
            preconditions,
            ..DeleteParams::default()
        };
        match call(context.executions.delete(&record.name, &params)).await {
            Ok(_) => debug!(execution = record.name, "deleted a finished record"),
            Err(error) if error.is_not_found() || error.status() == Some(409) => {}
            Err(error) => {
                warn!(execution = record.name, %error, "could not delete a finished record");
                return;
            }
        }
        records.remove(&record.name);
    }
}

/// Labels results whose writer died before it came to that.
async fn label_what_was_left(context: &Context) {
    for phase in Phase::TERMINAL {
        let params = ListParams::default()
            .fields(&format!("status.phase={}", phase.as_str()))
            .labels(&format!("!{LABEL_PHASE}"));
        let result = async {
            let found = call(context.executions.list_metadata(&params)).await?;
            for object in found.items {
                let name = object.metadata.name.unwrap_or_default();
                let spec = call(context.executions.get(&name)).await?.spec;
                let (user, ttl) = (user_hash(&spec.user), spec.ttl_seconds_after_finished);
                label_finished(&context.executions, &name, phase, &user, ttl).await?;
            }
            Ok::<(), CallError>(())
        };
        if let Err(error) = result.await {
            warn!(%error, "could not label the results of before");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn second(number: i64) -> Timestamp {
        Timestamp::from_second(number).expect("a time")
    }

    fn finished(name: &str, created: i64, expires: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(format!("uid-{name}")),
            creation_timestamp: Some(Time(second(created))),
            annotations: Some(BTreeMap::from([(
                ANNOTATION_EXPIRES_AT.to_owned(),
                expires.to_owned(),
            )])),
            ..ObjectMeta::default()
        }
    }

    fn names(due: &[Record]) -> Vec<&str> {
        due.iter().map(|record| record.name.as_str()).collect()
    }

    #[test]
    fn records_go_when_their_time_is_over() {
        let mut records = Records::default();
        records.insert(&finished("late", 0, "1970-01-01T00:10:00Z"));
        records.insert(&finished("soon", 1, "1970-01-01T00:00:10Z"));
        assert_eq!(names(&records.due(second(10), 100)), ["soon"]);
        records.remove("soon");
        assert!(records.due(second(10), 100).is_empty());
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many() {
        let mut records = Records::default();
        for (name, created) in [("b", 2), ("a", 1), ("c", 3)] {
            records.insert(&finished(name, created, "2100-01-01T00:00:00Z"));
        }
        assert_eq!(names(&records.due(second(10), 1)), ["a", "b"]);
    }

    #[test]
    fn a_spoiled_annotation_deletes_nothing() {
        let mut records = Records::default();
        records.insert(&finished("a", 1, "yesterday"));
        assert!(records.due(second(10), 100).is_empty());
    }
}
