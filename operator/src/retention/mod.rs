//! Finished records: seen as metadata only, deleted when their time is over or there are too many, their outputs cut
//! when those take too much room.

mod cut;
pub mod kept;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use codeexec_audit::Execution as Audited;
use codeexec_crds::{CodeExecution, LABEL_PHASE, Phase, Summary};
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, Preconditions};
use tracing::{debug, warn};

use crate::connection::{CallError, call};
use crate::driver::Context;
use crate::etcd::{WRITES_OF_A_RESULT, object_bytes, stored, summary};
use crate::records::label_finished;
use crate::watch::{self, Change};

use self::kept::{Bounds, Kept};

/// How often records are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Most deletions a look: each is one write to etcd, and executions come first.
const DELETIONS_A_LOOK: usize = 50;

/// Most outputs cut a look: each is read, and written twice. What may be written a second comes to fewer.
const CUTS_A_LOOK: usize = 20;

/// Deletes finished records in their time, and cuts the oldest outputs, for ever.
pub async fn run(context: Arc<Context>) {
    let bounds = Bounds {
        records: usize::try_from(context.settings.max_finished).unwrap_or(usize::MAX),
        record_bytes: context.settings.max_record_bytes,
        output_bytes: context.settings.max_output_bytes,
    };
    label_what_was_left(&context).await;
    let mut changes = pin!(watch::finished(context.records.clone()));
    let mut kept = Kept::default();
    let mut listing: Option<Listing> = Some(Listing::default());
    let mut inherited = false;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(change) = changes.next() => {
                if let Some(listed) = apply(change, &mut kept, &mut listing)
                    && !std::mem::replace(&mut inherited, true)
                {
                    context.etcd.inherit(Timestamp::now(), listed);
                }
            }
            _ = look.tick() => {
                delete_due(&context, &bounds, &mut kept).await;
                cut_outputs(&context, &bounds, &mut kept).await;
                context.metrics.storage.kept(&kept);
                context.metrics.storage.budget(context.etcd.left(Timestamp::now()));
            }
        }
    }
}

/// A list that is not complete yet.
#[derive(Debug, Default)]
struct Listing {
    kept: Kept,
    /// When the listed records ended, and what was written for each.
    ended: Vec<(Timestamp, u64)>,
}

/// Takes a change up. What was written for the records of a list, once that is complete.
fn apply(
    change: Change<PartialObjectMeta<CodeExecution>>,
    kept: &mut Kept,
    listing: &mut Option<Listing>,
) -> Option<Vec<(Timestamp, u64)>> {
    match change {
        Change::Restarted => *listing = Some(Listing::default()),
        Change::Present(object) => match listing.as_mut() {
            Some(listing) => {
                let summary = Summary::of(&object.metadata);
                let written =
                    |summary: Summary| (summary.ended_at.0, WRITES_OF_A_RESULT * summary.stored.total());
                listing.ended.extend(summary.map(written));
                listing.kept.insert(&object.metadata);
            }
            None => kept.insert(&object.metadata),
        },
        Change::Gone(object) => {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            listing
                .as_mut()
                .map_or(kept, |listing| &mut listing.kept)
                .remove(name);
        }
        Change::Listed => {
            if let Some(listed) = listing.take() {
                *kept = listed.kept;
                return Some(listed.ended);
            }
        }
    }
    None
}

async fn delete_due(context: &Context, bounds: &Bounds, kept: &mut Kept) {
    for record in kept.due(Timestamp::now(), bounds, DELETIONS_A_LOOK) {
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
            Ok(_) => debug!(execution = %record.name, "deleted a finished record"),
            Err(error) if error.is_not_found() || error.status() == Some(409) => {}
            Err(error) => {
                warn!(execution = %record.name, %error, "could not delete a finished record");
                return;
            }
        }
        kept.remove(&record.name);
    }
}

async fn cut_outputs(context: &Context, bounds: &Bounds, kept: &mut Kept) {
    for _ in 0..CUTS_A_LOOK {
        let Some(record) = kept.next_to_cut(bounds) else {
            return;
        };
        match cut::cut(context, &record).await {
            Ok(Some(stored)) => kept.was_cut(&record.name, Some(stored)),
            Ok(None) => kept.remove(&record.name),
            Err(error) => {
                warn!(execution = %record.name, %error, "could not cut the output of a finished record");
                // One that never can be must not keep the others' outputs. The watch's next list brings it back.
                return kept.was_cut(&record.name, None);
            }
        }
    }
}

/// Writes the audit lines of results whose writer died before it came to that, and their labels.
async fn label_what_was_left(context: &Context) {
    for phase in Phase::TERMINAL {
        let params = ListParams::default()
            .fields(&format!("status.phase={}", phase.as_str()))
            .labels(&format!("!{LABEL_PHASE}"));
        let found = match call(context.executions.list_metadata(&params)).await {
            Ok(found) => found,
            Err(error) => {
                warn!(phase = phase.as_str(), %error, "could not look for results of before");
                continue;
            }
        };
        for object in found.items {
            let name = object.metadata.name.unwrap_or_default();
            // One that can't be read, or went meanwhile, must not keep the others from theirs.
            if let Err(error) = label_left(context, &name, phase).await {
                warn!(execution = name, %error, "could not label a result of before");
            }
        }
    }
}

async fn label_left(context: &Context, name: &str, phase: Phase) -> Result<(), CallError> {
    let execution = call(context.executions.get(name)).await?;
    let object_bytes = object_bytes(&execution);
    let uid = execution.metadata.uid.as_deref().unwrap_or_default();
    let status = execution.status.unwrap_or_default();
    Audited::ended(name, uid, &execution.spec, &status).write();
    let stored = stored(object_bytes, &status);
    let summary = summary(&execution.spec.user, &status, stored);
    let ttl = execution.spec.ttl_seconds_after_finished;
    label_finished(&context.executions, name, phase, ttl, &summary).await
}
