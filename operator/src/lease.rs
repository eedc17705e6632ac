//! Leader election by a Lease: of all replicas one drives.
//!
//! Expiry is judged by this process's own monotonic clock, from the moment it saw the Lease change: clocks of
//! different nodes need not agree. A leader that could not renew in time ends its process, for only that
//! stops everything it has under way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tracing::{debug, info, warn};

use crate::connection::{CallError, call};

/// Pause between looks of a replica that waits.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Until when this process is sure to lead: nobody takes the Lease before.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Mutex<Option<Instant>>>);

impl Held {
    /// Waits for ever where that is not sure any more: the process is about to end, and must not begin anything
    /// that its successor may be doing as well.
    pub async fn or_never(&self) {
        // A panic elsewhere can't have left an instant half written.
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_none_or(|until| until <= Instant::now()) {
            std::future::pending::<()>().await;
        }
    }

    fn until(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

/// The Lease and this process's name in it.
pub struct Election {
    api: Api<Lease>,
    name: String,
    holder: String,
    duration: Duration,
    held: Held,
    seen: Option<Seen>,
}

/// The Lease as it was when it last changed.
struct Seen {
    resource_version: Option<String>,
    at: Instant,
}

/// What stands in the Lease, for the decision whether to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Mine,
    Free,
    Held,
}

fn standing(spec: &LeaseSpec, holder: &str, unchanged_for: Duration, own_duration: Duration) -> Standing {
    match spec.holder_identity.as_deref() {
        Some(current) if current == holder => Standing::Mine,
        None | Some("") => Standing::Free,
        Some(_) => {
            // The holder's own word on how long it may be silent counts, not ours.
            let promised = spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok());
            let lasts = promised.map_or(own_duration, Duration::from_secs);
            if unchanged_for >= lasts {
                Standing::Free
            } else {
                Standing::Held
            }
        }
    }
}

impl Election {
    /// An election for the Lease `name` among processes that are called differently.
    #[must_use]
    pub fn new(api: Api<Lease>, name: String, holder: String, duration: Duration, held: Held) -> Self {
        Self {
            api,
            name,
            holder,
            duration,
            held,
            seen: None,
        }
    }

    /// Waits until this process holds the Lease.
    pub async fn acquire(&mut self) {
        loop {
            match self.try_acquire().await {
                Ok(true) => {
                    info!(holder = self.holder, "leading");
                    return;
                }
                Ok(false) => debug!("another replica leads"),
                Err(error) => warn!(lease = self.name, %error, "could not take the Lease"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Renews the Lease until that fails for two thirds of its duration. Comes back when it is lost.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        let deadline = self.duration * 2 / 3;
        loop {
            tokio::time::sleep(self.duration / 6).await;
            // A process that was stopped for long finds out here, before it renews what is no longer its own.
            if renewed.elapsed() >= self.duration {
                return;
            }
            let left = deadline
                .saturating_sub(renewed.elapsed())
                .max(Duration::from_millis(100));
            match tokio::time::timeout(left, self.try_acquire()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => warn!(lease = self.name, %error, "could not renew the Lease"),
                Err(_) => warn!(lease = self.name, "no answer to the renewal of the Lease"),
            }
            if renewed.elapsed() >= deadline {
                return;
            }
        }
    }

    /// Gives the Lease up, so that another replica need not wait for its end.
    pub async fn release(&mut self) {
        let Ok(mut lease) = call(self.api.get(&self.name)).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() == Some(&self.holder) {
            spec.holder_identity = None;
            // Whoever is faster may have it; both failing only costs the rest of the duration.
            let _ = call(self.api.replace(&self.name, &PostParams::default(), &lease)).await;
        }
    }

    /// Whether the Lease is this process's, which it then is for its duration from before the call on: another
    /// one counts from when it saw the write.
    async fn try_acquire(&mut self) -> Result<bool, CallError> {
        let until = Instant::now() + self.duration;
        let taken = self.try_take().await?;
        if taken {
            self.held.until(until);
        }
        Ok(taken)
    }

    async fn try_take(&mut self) -> Result<bool, CallError> {
        let mut lease = match call(self.api.get(&self.name)).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => return self.create().await,
            Err(error) => return Err(error),
        };
        let version = lease.metadata.resource_version.clone();
        let seen = self.seen.take().filter(|seen| seen.resource_version == version);
        let seen = self.seen.insert(seen.unwrap_or(Seen {
            resource_version: version,
            at: Instant::now(),
        }));
        let unchanged_for = seen.at.elapsed();
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        match standing(spec, &self.holder, unchanged_for, self.duration) {
            Standing::Held => return Ok(false),
            Standing::Free => {
                spec.acquire_time = Some(MicroTime(Timestamp::now()));
                spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
            }
            Standing::Mine => {}
        }
        self.fill(spec);
        // The resourceVersion in the object makes this fail if somebody else wrote meanwhile.
        match call(self.api.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&self) -> Result<bool, CallError> {
        let mut spec = LeaseSpec {
            acquire_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        self.fill(&mut spec);
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            ..ObjectMeta::default()
        };
        match call(self.api.create(
            &PostParams::default(),
            &Lease {
                metadata,
                spec: Some(spec),
            },
        ))
        .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn fill(&self, spec: &mut LeaseSpec) {
        spec.holder_identity = Some(self.holder.clone());
        spec.lease_duration_seconds = i32::try_from(self.duration.as_secs()).ok();
        spec.renew_time = Some(MicroTime(Timestamp::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(10),
            ..LeaseSpec::default()
        }
    }

    fn after(seconds: u64, spec: &LeaseSpec) -> Standing {
        standing(spec, "me", Duration::from_secs(seconds), Duration::from_secs(6))
    }

    #[test]
    fn a_lease_is_taken_only_after_its_holder_s_own_duration() {
        assert_eq!(after(9, &held_by("other")), Standing::Held);
        assert_eq!(after(10, &held_by("other")), Standing::Free);
    }

    #[test]
    fn a_released_lease_is_free_at_once() {
        assert_eq!(after(0, &held_by("")), Standing::Free);
        assert_eq!(after(0, &LeaseSpec::default()), Standing::Free);
    }

    #[test]
    fn the_holder_knows_its_own() {
        assert_eq!(after(100, &held_by("me")), Standing::Mine);
    }
}
