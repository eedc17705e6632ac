//! An execution's way into its pool, and to an idle Pod.

use std::time::{Duration, Instant};

use codeexec_crds::LABEL_EXECUTION;
use codeexec_runner::frames::{Ended, FromRunner};
use jiff::Timestamp;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::{Driver, PoolTurn, TELL_POSITION};
use crate::connection::call;
use crate::observe::PodView;
use crate::pod;
use crate::pool::{ComingBack, Place, Reuse, WarmPod, Wish, keeper};
use crate::session::Event;
use crate::step::{PodState, Stream, Turn};

/// How long a runner may take to clean up after a program: it ends processes, empties folders, starts an interpreter
/// and imports the pool's modules, with half a processor.
const CLEAN_PATIENCE: Duration = Duration::from_secs(20);

/// Tries to claim one Pod: its kubelet may write at the same moment.
const TRIES: u32 = 5;

impl Driver {
    /// Name of its Pod: the claimed one, or one of its own.
    pub(super) fn pod_name(&self) -> String {
        let own = || pod::name(&self.uid, self.observed.done.attempt);
        self.claimed.clone().unwrap_or_else(own)
    }

    /// Whether a Pod was claimed for it that it does not know of.
    pub(super) fn is_unknown_claim(&self, view: &PodView) -> bool {
        self.observed.pod == PodState::NotCreated
            && self.warm.is_none()
            && self.inherited
            && pod::attempt(&self.uid, &view.name).is_none()
    }

    /// Asks the pool for a turn.
    pub(super) fn enter(&mut self) {
        let waited = self.clock.queued + self.clock.seen.elapsed();
        let wish = Wish {
            pool: &self.execution.spec.pool,
            uid: &self.uid,
            user: &self.execution.spec.user,
            timeout: self.observed.timeout,
            patience: self.context.settings.queue_timeout().saturating_sub(waited),
            warm: !self.inherited,
        };
        self.observed.turn = match self.context.pools.enter(&wish) {
            Ok(place) => {
                self.place = Some(place);
                Turn::Waiting
            }
            Err(refused) => Turn::Refused(refused.to_string()),
        };
    }

    /// Takes its turn.
    pub(super) fn on_turn(&mut self, turn: PoolTurn) {
        self.clock.turn = Some(Instant::now());
        self.observed.turn = match turn {
            PoolTurn::Warm(warm) => {
                self.warm = Some(warm);
                Turn::Warm
            }
            PoolTurn::Cold => Turn::Cold,
        };
    }

    /// Makes an idle Pod its own: the one that it was given, or another one where that is lost.
    pub(super) async fn claim(&mut self) {
        // Somebody who leads by now may have given the execution another Pod.
        self.context.held.or_never().await;
        self.failpoint.hit("before-claim");
        self.clock.ready = Some(Instant::now());
        while let Some(warm) = self.warm.take() {
            if let Some(view) = self.claim_pod(&warm).await {
                self.take(*warm, view);
                self.failpoint.hit("after-claim");
                return;
            }
            tokio::spawn(keeper::delete(self.context.clone(), warm.view.name.clone()));
            let place = self.place.as_ref();
            self.warm = place.and_then(|place| place.another(self.observed.timeout));
        }
        self.clock.ready = None;
        self.observed.turn = Turn::Cold;
        if let Some(place) = &self.place {
            place.starts_cold();
        }
    }

    fn take(&mut self, warm: WarmPod, view: PodView) {
        self.claimed = Some(view.name.clone());
        self.printed_before = warm.printed;
        self.observed.pod = PodState::Exists(Box::new(view));
        self.observed.stream = Stream::Ready;
        self.observed.done.recorded = true;
        self.session = Some(warm.session);
        self.ready = Some(warm.ready);
    }

    /// Gives an idle Pod back that it did not come to claim.
    pub(super) fn give_back(&mut self) {
        if let (Some(warm), Some(place)) = (self.warm.take(), &self.place) {
            place.give_back(*warm);
        }
    }

    /// One write, which fails where anybody else has written to the Pod since. One without an answer is looked up.
    /// Nothing when the Pod is somebody else's, or gone, or can't be had.
    async fn claim_pod(&self, warm: &WarmPod) -> Option<PodView> {
        let name = &warm.view.name;
        let mut version = warm.view.resource_version.clone();
        for _ in 0..TRIES {
            let patch = self.claim_patch(version.as_deref());
            let patched = call(
                self.context
                    .pods
                    .patch(name, &PatchParams::default(), &Patch::Merge(&patch)),
            )
            .await;
            match patched {
                Ok(object) => return Some(PodView::from(&object)),
                Err(error) if matches!(error.status(), Some(400 | 403 | 404 | 422)) => {
                    warn!(execution = self.name, pod = name, %error, "could not claim an idle Pod");
                    return None;
                }
                Err(error) => debug!(execution = self.name, pod = name, %error, "claiming an idle Pod again"),
            }
            match self.look_at(name).await {
                Some(view) if view.execution_uid.as_deref() == Some(&self.uid) => return Some(view),
                Some(view)
                    if view.execution_uid == warm.view.execution_uid
                        && view.operator.as_deref() == Some(&self.context.holder)
                        && !view.deleting
                        && !view.ended =>
                {
                    version = view.resource_version;
                }
                _ => return None,
            }
        }
        None
    }

    /// The Pod as it is, however long it takes to find out: it may be this execution's. Nothing when it is gone.
    async fn look_at(&self, name: &str) -> Option<PodView> {
        loop {
            match call(self.context.pods.get(name)).await {
                Ok(object) => return Some(PodView::from(&object)),
                Err(error) if error.is_not_found() => return None,
                Err(error) => {
                    self.pause_after(&error, "could not look at a Pod that was to be claimed")
                        .await;
                }
            }
        }
    }

    /// Metadata alone: a change of the spec is one that the kubelet answers with a write of its own, at the very
    /// moment of the result.
    fn claim_patch(&self, version: Option<&str>) -> Value {
        let mut metadata = json!({"resourceVersion": version, "labels": {LABEL_EXECUTION: self.uid}});
        // A Pod that is to serve again stays the pool's.
        if self.reuse().is_none() {
            metadata["ownerReferences"] = json!([self.execution.controller_owner_ref(&())]);
        }
        json!({"metadata": metadata})
    }

    /// How far its pool's Pods are used again.
    fn reuse(&self) -> Option<Reuse> {
        Reuse::of(self.pool.reuse.as_ref())
    }

    /// Whether its Pod may serve the same user again: one that was idle, and that this process has followed from
    /// its claim on.
    pub(super) fn keeps_pod(&self) -> bool {
        let served = self.ready.as_ref().map_or(0, |ready| ready.served);
        let may = |reuse: Reuse| reuse.keeps(served, self.printed_before);
        self.claimed.is_some() && !self.observed.done.taken_over && self.reuse().is_some_and(may)
    }

    /// Announces its Pod to the pool if it may serve the same user again: a Pod whose program was stopped from
    /// outside has to go.
    pub(super) fn comes_back(&self) -> Option<ComingBack> {
        let ran_to_its_end = self
            .transcript
            .result()
            .is_some_and(|result| result.ended != Ended::Terminated);
        let spec = &self.execution.spec;
        (ran_to_its_end && self.keeps_pod()).then(|| self.context.pools.comes_back(&spec.pool, &spec.user))
    }

    /// Waits until the Pod is ready for its user's next program, and hands it on. Whether it did: a Pod that can't
    /// be made clean ends.
    pub(super) async fn hand_on(&mut self, _coming_back: ComingBack) -> bool {
        let Some(served) = self.ready.as_ref().map(|ready| ready.served) else {
            return false;
        };
        let again = tokio::time::timeout(CLEAN_PATIENCE, async {
            loop {
                match self.session.as_mut()?.next().await? {
                    Event::Frame(FromRunner::Ready(ready)) if ready.served > served => return Some(ready),
                    Event::Broken => return None,
                    _ => {}
                }
            }
        });
        let (Ok(Some(ready)), PodState::Exists(view)) = (again.await, &self.observed.pod) else {
            return false;
        };
        let Some(session) = self.session.take() else {
            return false;
        };
        let printed = self.transcript.kept_bytes();
        let warm = WarmPod {
            view: (**view).clone(),
            session,
            ready,
            printed: self.printed_before + printed as u64,
        };
        let spec = &self.execution.spec;
        self.context.pools.put_back(&spec.pool, &spec.user, warm);
        true
    }

    /// Writes its position into the status of an execution that waits, once in a while.
    pub(super) async fn tell_position(&mut self) {
        if self.observed.turn != Turn::Waiting || self.clock.seen.elapsed() < TELL_POSITION {
            return;
        }
        let position = self.place.as_ref().and_then(Place::position);
        let Some(position) = position else { return };
        if let Some((told, at)) = self.told_position
            && (told == position || at.elapsed() < TELL_POSITION)
        {
            return;
        }
        // Each position is a write of the whole object, for every execution that waits.
        if !self.context.etcd.is_ample(Timestamp::now()) {
            return;
        }
        if self
            .write(&json!({"phase": "Queued", "queuePosition": position}))
            .await
        {
            self.told_position = Some((position, Instant::now()));
        }
    }
}
