//! What reaches a driver while it works: its execution's updates, its Pod's, frames, its turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codeexec_crds::CodeExecution;
use codeexec_runner::frames::FromRunner;
use tracing::warn;

use super::{Driver, ExecutionUpdate, PodUpdate, RETRY, TELL_POSITION};
use crate::connection::call;
use crate::pool::Place;
use crate::records;
use crate::session::{Event, Session};
use crate::step::{PodState, Stream, Turn};

impl Driver {
    /// Takes everything that came while something else was done.
    pub(super) async fn take_what_is_there(&mut self) {
        while let Ok(update) = self.pods_rx.try_recv() {
            self.on_pod(update);
        }
        while let Some(event) = self.session.as_mut().and_then(Session::try_next) {
            self.on_stream(event);
        }
        if let Some(turn) = self.place.as_mut().and_then(Place::try_turn) {
            self.on_turn(turn);
        }
        if self.updates_rx.has_changed().unwrap_or(false) {
            let update = self.updates_rx.borrow_and_update().clone();
            self.on_update(update).await;
        }
    }

    /// Waits for the next thing to happen, at most `longest`, and never past a point in time that decides.
    pub(super) async fn wait(&mut self, longest: Option<Duration>) {
        let now = Instant::now();
        let patience = (!self.observed.patience_over).then(|| {
            let waited = self.clock.queued + (now - self.clock.seen);
            self.context.settings.queue_timeout().saturating_sub(waited) + Duration::from_millis(1)
        });
        let retry = self
            .clock
            .retry_create_at
            .map(|at| at.saturating_duration_since(now));
        let position = (self.observed.turn == Turn::Waiting).then_some(TELL_POSITION);
        let bound = [
            longest,
            patience,
            retry.filter(|pause| !pause.is_zero()),
            position,
        ]
        .into_iter()
        .flatten()
        .min();
        let timer = async {
            match bound {
                Some(bound) => tokio::time::sleep(bound).await,
                None => std::future::pending().await,
            }
        };
        let stream = async {
            match self.session.as_mut() {
                Some(session) => session.next().await,
                None => std::future::pending().await,
            }
        };
        let turn = async {
            match self.place.as_mut() {
                Some(place) => place.turn().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.updates_rx.changed() => {
                let update = self.updates_rx.borrow_and_update().clone();
                match changed {
                    Ok(()) => self.on_update(update).await,
                    // The dispatcher is gone: the process is ending.
                    Err(_) => std::future::pending().await,
                }
            }
            Some(update) = self.pods_rx.recv() => self.on_pod(update),
            Some(event) = stream => self.on_stream(event),
            turn = turn => self.on_turn(turn),
            () = timer => {}
        }
    }

    pub(super) async fn on_update(&mut self, update: ExecutionUpdate) {
        match update {
            ExecutionUpdate::Present(execution) => self.on_execution(execution),
            ExecutionUpdate::Left => self.look_why_it_left().await,
        }
    }

    pub(super) fn on_execution(&mut self, execution: Arc<CodeExecution>) {
        self.observed.cancel |= execution.spec.cancel;
        self.observed.gone |= execution.metadata.deletion_timestamp.is_some();
        if let Some(version) = &execution.metadata.resource_version {
            self.saw_version(version);
        }
        self.execution = execution;
    }

    /// Keeps the newest resourceVersion: an event may come after the answer to a later write. An older one
    /// would only cost a write more.
    pub(super) fn saw_version(&mut self, version: &str) {
        match (version.parse::<u64>(), self.resource_version.parse::<u64>()) {
            (Ok(new), Ok(known)) if new <= known => {}
            _ => version.clone_into(&mut self.resource_version),
        }
    }

    /// A watch limited to unfinished executions reports one that finished as deleted, the same as a real
    /// deletion. Only the object can tell.
    pub(super) async fn look_why_it_left(&mut self) {
        loop {
            match call(self.context.executions.get(&self.name)).await {
                Ok(object) if object.metadata.uid.as_deref() != Some(&self.uid) => self.observed.gone = true,
                Ok(object) if records::is_finished(&object) => self.ended_elsewhere(&object),
                // Still there and unfinished: the watch was replaced, and will tell again.
                Ok(object) => self.on_execution(Arc::new(object)),
                Err(error) if error.is_not_found() => self.observed.gone = true,
                Err(error) => {
                    warn!(execution = self.name, %error, "could not look why an execution left the watch");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            return;
        }
    }

    pub(super) fn on_pod(&mut self, update: PodUpdate) {
        let current = self.pod_name();
        match update {
            // Claimed by whoever drove it before, and only heard of now.
            PodUpdate::Present(view) if self.is_unknown_claim(&view) => {
                self.claimed = Some(view.name.clone());
                self.observed.done.recorded = true;
                self.observed.done.taken_over = true;
                self.observed.pod = PodState::Exists(view);
            }
            // An event from before the creation's answer must not bring a Pod back that is gone.
            PodUpdate::Present(view)
                if view.name == current && !matches!(self.observed.pod, PodState::Gone(_)) =>
            {
                self.observed.pod = PodState::Exists(match &self.observed.pod {
                    PodState::Exists(before) => Box::new(view.after(before)),
                    _ => view,
                });
            }
            PodUpdate::Gone(view) if view.name == current => self.observed.pod = PodState::Gone(Some(view)),
            _ => {}
        }
    }

    pub(super) fn on_stream(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Attached | Event::Broken => self.observed.stream = Stream::Connecting,
            Event::Sent => self.failpoint.hit("after-frame"),
            Event::Frame(FromRunner::Ready(ready)) => {
                if self.observed.stream == Stream::Connecting {
                    self.observed.stream = Stream::Ready;
                }
                self.clock.ready.get_or_insert(now);
                if let (None, Some(place)) = (&self.ready, &self.place) {
                    place.has_started();
                }
                self.ready = Some(ready);
            }
            Event::Frame(frame) => {
                self.transcript.push(frame);
                if self.transcript.started() && self.clock.started.is_none() {
                    self.clock.started = Some(now);
                    self.failpoint.hit("after-started");
                }
            }
        }
    }
}
