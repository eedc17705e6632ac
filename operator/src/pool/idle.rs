//! One idle Pod, attached beforehand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codeexec_runner::frames::{FromRunner, Ready};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::driver::Context;
use crate::failpoints::Failpoint;
use crate::observe::PodView;
use crate::session::{Event, Session};

/// How long an idle Pod may lack a stream to a runner that is ready: at its start, which may bring an image, and
/// an import that fills half a processor for seconds; and later, when a stream broke.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STREAM_PATIENCE: Duration = Duration::from_secs(15);

/// A Pod that waits for an execution.
pub struct IdlePod {
    pub view: PodView,
    session: Option<Session>,
    ready: Option<Ready>,
    was_ready: bool,
    unready_since: Instant,
    /// Another process's: it may claim the Pod at any moment.
    foreign: bool,
    /// Its mark is being written.
    marking: bool,
}

/// A ready Pod with its stream, out of its pool and in nobody else's hands.
pub struct WarmPod {
    /// The Pod as it was last seen.
    pub view: PodView,
    /// The stream to it.
    pub session: Session,
    /// What its runner reported.
    pub ready: Ready,
    /// What earlier programs of its user printed there or left as files, in bytes of its log.
    pub printed: u64,
}

impl WarmPod {
    /// How long it may still serve.
    pub fn life_left(&self) -> Duration {
        life_left(&self.view)
    }

    /// Whether nothing is known that would keep it from serving.
    pub fn is_there(&self) -> bool {
        !self.view.ended && !self.view.failing && !self.view.deleting
    }
}

impl IdlePod {
    pub fn new(view: PodView, foreign: bool) -> Self {
        Self {
            view,
            foreign,
            marking: false,
            session: None,
            ready: None,
            was_ready: false,
            unready_since: Instant::now(),
        }
    }

    /// Takes a Pod back that nobody claimed.
    pub fn returned(warm: WarmPod) -> Self {
        Self {
            view: warm.view,
            foreign: false,
            marking: false,
            session: Some(warm.session),
            ready: Some(warm.ready),
            was_ready: true,
            unready_since: Instant::now(),
        }
    }

    /// Opens the stream as soon as there is a node to open it to.
    pub fn attach(&mut self, context: &Context, changed: &Arc<Notify>) {
        if self.session.is_none() && self.view.node.is_some() && !self.view.ended && !self.view.deleting {
            self.session = Some(Session::open(
                context.attacher.clone(),
                self.view.name.clone(),
                Failpoint::default(),
                Some(changed.clone()),
            ));
        }
    }

    /// Takes in what the stream told. Whether the Pod became ready for the first time by that.
    pub fn listen(&mut self) -> bool {
        let first = !self.was_ready;
        while let Some(event) = self.session.as_mut().and_then(Session::try_next) {
            match event {
                Event::Frame(FromRunner::Ready(ready)) => {
                    self.ready = Some(ready);
                    self.was_ready = true;
                }
                Event::Attached | Event::Broken => {
                    if self.ready.take().is_some() {
                        self.unready_since = Instant::now();
                    }
                }
                // An idle runner says nothing else.
                Event::Frame(_) | Event::Sent => {}
            }
        }
        first && self.was_ready
    }

    /// Whether it would take a request at once.
    pub fn is_ready(&self, wait_for_network: bool) -> bool {
        self.ready
            .as_ref()
            .is_some_and(|ready| !(wait_for_network && ready.network.is_pending()))
            && !self.is_over()
    }

    /// Whether it has to be marked as ready, which is done once.
    pub fn begin_mark(&mut self) -> bool {
        let due = self.was_ready && !self.view.marked_ready && !self.marking && !self.is_over();
        self.marking |= due;
        due
    }

    /// Whether it can't get ready any more, or has not for too long.
    pub fn is_over(&self) -> bool {
        let patience = if self.was_ready {
            STREAM_PATIENCE
        } else {
            START_PATIENCE
        };
        self.foreign
            || self.view.ended
            || self.view.failing
            || self.view.deleting
            || (self.ready.is_none() && self.unready_since.elapsed() > patience)
    }

    /// Why it went without ever having been ready, if it did.
    pub fn failure(&self) -> Option<String> {
        if self.was_ready || self.foreign || self.view.deleting || !self.is_over() {
            return None;
        }
        let said = self
            .view
            .terminated
            .as_ref()
            .and_then(|terminated| terminated.message.clone());
        let said = said.filter(|said| !said.trim().is_empty());
        Some(
            said.or_else(|| self.obstacle().map(|(_, message)| message))
                .unwrap_or_else(|| "its runner did not become ready".to_owned()),
        )
    }

    /// What keeps it from becoming ready: a reason and the words of whoever said so.
    pub fn obstacle(&self) -> Option<(&'static str, String)> {
        let view = &self.view;
        let told = |reason, message: &Option<String>| message.clone().map(|message| (reason, message));
        told("ImagePull", &view.image_error)
            .or_else(|| told("ContainerNotStarted", &view.start_error))
            .or_else(|| told("Unschedulable", &view.unschedulable))
    }

    /// How long it may still serve.
    pub fn life_left(&self) -> Duration {
        life_left(&self.view)
    }

    /// Takes it out for an execution; only when it is ready.
    pub fn into_warm(self) -> Option<WarmPod> {
        Some(WarmPod {
            view: self.view,
            session: self.session?,
            ready: self.ready?,
            printed: 0,
        })
    }
}

fn life_left(view: &PodView) -> Duration {
    let deadline = Duration::from_secs(view.deadline_seconds.unwrap_or(0).unsigned_abs());
    deadline.saturating_sub(view.age(Timestamp::now()))
}
