//! The next step of one execution: a pure function of what is observed.
//!
//! ```text
//!   enter ─┬▶ claim an idle Pod ────────────────────┬▶ send ─▶ (record Running) ─▶ finish
//!          └▶ create Pod ─▶ record its name ─▶ attach ┘          after a takeover: read the log first
//!               ▲                              │
//!               └── only while no runner can have got the request
//! ```
//!
//! At most once rests on these facts. `Send` comes only after the Pod was claimed under its own resourceVersion, or
//! its name was recorded in the status under the object's: whoever was replaced meanwhile fails to do either, for
//! his successor writes to every idle Pod before it claims one (see [`crate::pool::keeper::adopt`]), and records
//! the Pods of all executions that it found. And a second Pod is created only where the first provably never got
//! the request.

use std::time::Duration;

use codeexec_execution::isolation::Verdict;
use codeexec_execution::outcome::End;

use crate::observe::PodView;

/// How long a program runs before its phase is worth a write of its own, unless somebody may look on: a fast one saves
/// that write, and the 10 ms it takes.
pub const RUNNING_AFTER: Duration = Duration::from_millis(150);

/// How long after its timeout an execution may still lack a result before the operator gives up on its
/// runner. The kubelet ends the Pod 5 s after the timeout, up to 2 s late; then the log is read.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(9);

/// How long a runner may take to answer a request before it is sent again, on a new stream: one that died without a
/// word looks like one on which nothing happens. The runner knows a repeat.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// How long a Pod that is being stopped has to report what its program printed so far.
pub const STOP_PATIENCE: Duration = Duration::from_secs(4);

/// How long a run that was stopped from outside waits for the Pod's status to say by what: the kubelet writes
/// that an eviction was one only after it stopped the container.
pub const CAUSE_PATIENCE: Duration = Duration::from_secs(5);

/// Pods that one execution may use up before it fails: more would only repeat what the first ones met.
pub const MAX_ATTEMPTS: u32 = 3;

/// All that decides the next step.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The execution's object was deleted.
    pub gone: bool,
    /// Its result stands already; somebody else wrote it.
    pub finished: bool,
    /// Its cancellation was asked for.
    pub cancel: bool,
    /// The bound that its spec breaks.
    pub violation: Option<String>,
    /// Its timeout.
    pub timeout: Duration,
    /// Somebody may look on while it runs.
    pub live: bool,
    /// The queue's patience with it is over.
    pub patience_over: bool,
    /// Whether its pool has come to it.
    pub turn: Turn,
    /// The Pod of the current attempt.
    pub pod: PodState,
    /// The stream to that Pod.
    pub stream: Stream,
    /// How the isolation that is required compares with what that Pod's runner reported.
    pub isolation: Verdict,
    /// What its frames told so far.
    pub run: Run,
    /// What this process did, or found done.
    pub done: Done,
}

/// How it stands with its pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// It has not asked for its turn.
    #[default]
    Unasked,
    /// It waits.
    Waiting,
    /// The pool takes no more; why.
    Refused(String),
    /// An idle Pod is there for it.
    Warm,
    /// It may start a Pod of its own.
    Cold,
}

/// The Pod of the current attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PodState {
    /// None was made yet.
    #[default]
    NotCreated,
    /// It could not be made, and why; trying again after a pause.
    Refused(Refusal),
    /// It exists.
    Exists(Box<PodView>),
    /// It existed, and is gone; what was last seen of it.
    Gone(Option<Box<PodView>>),
}

/// Why the API server did not take a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the execution ends with if this lasts.
    pub end: End,
    /// Whether the pause before the next try is over.
    pub retry_now: bool,
    /// Whether trying again can help.
    pub lasting: bool,
}

/// The stream to the Pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    /// Nobody tries to attach.
    #[default]
    Detached,
    /// Somebody tries to attach, or waits for the runner's `ready`.
    Connecting,
    /// The runner is ready for a request on this stream.
    Ready,
    /// The request was written to this stream.
    Sent,
}

/// What the frames told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The program has started.
    pub started: bool,
    /// For how long this process knows that, or that the request was sent.
    pub running_for: Duration,
    /// The request was sent this long ago, and nothing has come of it.
    pub unanswered_for: Option<Duration>,
    /// The runner reported its result.
    pub result: bool,
    /// Every byte that it kept is here.
    pub whole: bool,
    /// By that result it was stopped from outside, and this process has known it for so long.
    pub stopped_for: Option<Duration>,
}

/// What was done already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The current Pod's name stands in the status.
    pub recorded: bool,
    /// The status says Running.
    pub running_recorded: bool,
    /// The request may have reached a runner.
    pub delivered: bool,
    /// Another process began this; what it did has to be read from the Pod's log first.
    pub taken_over: bool,
    /// The log was read (or can't be read any more) since the Pod ended or was taken over.
    pub log: LogState,
    /// The Pod's deletion was asked for, this long ago.
    pub stopping_for: Option<Duration>,
    /// Number of Pods used up before the current one.
    pub attempt: u32,
}

/// Whether the Pod's log was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogState {
    /// Not yet.
    #[default]
    Unread,
    /// Read while the Pod ran.
    ReadRunning,
    /// Read after the Pod had ended: nothing can follow.
    ReadEnded,
    /// It can't be had.
    Lost,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes or this long has passed.
    Wait(Option<Duration>),
    /// Ask the pool for a turn.
    Enter,
    /// Make the idle Pod this execution's own.
    Claim,
    /// Create the Pod of the current attempt.
    CreatePod,
    /// Write its name into the status.
    RecordPod,
    /// Open a stream to it.
    Attach,
    /// Send the request.
    Send,
    /// Write that it runs.
    RecordRunning,
    /// Read the Pod's log.
    ReadLog,
    /// Delete the Pod; its runner reports what there is.
    StopPod,
    /// Give the current Pod up and begin with a new one.
    NextAttempt,
    /// Write the result.
    Finish(End),
    /// Nothing is left to do, but to see that the Pod goes.
    Abandon,
}

/// The next step for what is observed.
#[must_use]
pub fn next_step(observed: &Observed) -> Step {
    let Observed { done, run, pod, .. } = observed;
    if observed.gone || observed.finished {
        return Step::Abandon;
    }
    if run.result {
        let log_may_know_more = !run.whole && matches!(done.log, LogState::Unread | LogState::ReadRunning);
        if log_may_know_more {
            return Step::ReadLog;
        }
        return match (end_of(observed), run.stopped_for) {
            (End::Reported, Some(known)) if known < CAUSE_PATIENCE => {
                Step::Wait(Some(CAUSE_PATIENCE.saturating_sub(known)))
            }
            (end, _) => Step::Finish(end),
        };
    }
    if let Some(violation) = &observed.violation {
        return Step::Finish(End::Rejected(violation.clone()));
    }
    match pod {
        PodState::NotCreated => without_pod(observed, None),
        PodState::Refused(refusal) => without_pod(observed, Some(refusal)),
        PodState::Gone(_) => gone(observed),
        PodState::Exists(pod) if pod.ended => ended(observed, pod),
        PodState::Exists(pod) if observed.cancel || pod.failing || done.stopping_for.is_some() => {
            stopping(observed)
        }
        PodState::Exists(pod) => alive(observed, pod),
    }
}

/// What ended a run that has a result, or that will not get one.
fn end_of(observed: &Observed) -> End {
    let pod = match &observed.pod {
        PodState::Exists(pod) => Some(pod.as_ref()),
        PodState::Gone(last) => last.as_deref(),
        PodState::NotCreated | PodState::Refused(_) => None,
    };
    let cause = pod.and_then(|pod| pod.cause.clone());
    let deleted = matches!(observed.pod, PodState::Gone(_)) || cause == Some(End::PodDeleted);
    match cause {
        _ if observed.cancel => End::Cancelled,
        Some(cause) if cause != End::PodDeleted => cause,
        // That deletion was our own doing, for a runner that was silent past its deadline.
        _ if deleted && observed.done.stopping_for.is_some() => End::PodDeadline,
        _ if deleted => End::PodDeleted,
        _ => End::Reported,
    }
}

fn without_pod(observed: &Observed, refusal: Option<&Refusal>) -> Step {
    if observed.cancel {
        return Step::Finish(End::Cancelled);
    }
    if let Verdict::Missing(text) = &observed.isolation {
        return Step::Finish(End::IsolationUnavailable(text.clone()));
    }
    match refusal {
        Some(refusal) if refusal.lasting || observed.patience_over => Step::Finish(refusal.end.clone()),
        Some(refusal) if !refusal.retry_now => Step::Wait(None),
        Some(_) => Step::CreatePod,
        None => without_attempt(observed),
    }
}

fn without_attempt(observed: &Observed) -> Step {
    match &observed.turn {
        Turn::Refused(why) => Step::Finish(End::QuotaExceeded(why.clone())),
        Turn::Waiting if observed.patience_over => Step::Finish(End::QuotaExceeded(
            "its turn in its pool did not come within the queue's patience".to_owned(),
        )),
        _ if observed.patience_over => Step::Finish(End::Internal(
            "the operator did not come to it within the queue's patience".to_owned(),
        )),
        Turn::Unasked => Step::Enter,
        Turn::Waiting => Step::Wait(None),
        Turn::Warm => Step::Claim,
        Turn::Cold => Step::CreatePod,
    }
}

/// The Pod's object is gone, and with it the log.
fn gone(observed: &Observed) -> Step {
    let done = &observed.done;
    // Who took over can't know whether the one before sent the request.
    let may_have_run =
        done.delivered || observed.run.started || (done.taken_over && done.log != LogState::ReadEnded);
    retry_or(observed, may_have_run, end_of(observed))
}

/// The container has ended without a result on the stream.
fn ended(observed: &Observed, pod: &PodView) -> Step {
    let (done, run) = (&observed.done, &observed.run);
    if matches!(done.log, LogState::Unread | LogState::ReadRunning) {
        return Step::ReadLog;
    }
    // The log holds everything that a runner ever said: no `started` in it means that nothing ran.
    let may_have_run = run.started || (done.log == LogState::Lost && (done.delivered || done.taken_over));
    let end = match (end_of(observed), &pod.terminated) {
        (End::Reported, Some(terminated)) if !may_have_run => End::Internal(runner_failure(terminated)),
        (end, _) => end,
    };
    retry_or(observed, may_have_run, end)
}

fn runner_failure(terminated: &crate::observe::Terminated) -> String {
    let said = terminated.message.as_deref().unwrap_or("").trim();
    let said = if said.is_empty() {
        "it left no message"
    } else {
        said
    };
    format!(
        "the runner exited with code {} before it took the program: {said}",
        terminated.exit_code
    )
}

fn retry_or(observed: &Observed, may_have_run: bool, end: End) -> Step {
    let retry = !may_have_run
        && !observed.cancel
        && !observed.patience_over
        && observed.done.stopping_for.is_none()
        && observed.done.attempt + 1 < MAX_ATTEMPTS;
    if retry {
        Step::NextAttempt
    } else {
        Step::Finish(end)
    }
}

/// The Pod is to go: cancelled, failed from outside, or given up.
fn stopping(observed: &Observed) -> Step {
    match observed.done.stopping_for {
        None => Step::StopPod,
        Some(waited) if waited < STOP_PATIENCE => Step::Wait(Some(STOP_PATIENCE.saturating_sub(waited))),
        Some(_) if observed.done.log == LogState::Unread => Step::ReadLog,
        Some(_) => Step::Finish(match end_of(observed) {
            End::Reported => End::PodDeadline,
            end => end,
        }),
    }
}

fn alive(observed: &Observed, pod: &PodView) -> Step {
    let (done, run) = (&observed.done, &observed.run);
    if !run.started && !done.delivered {
        if observed.patience_over {
            return Step::Finish(obstacle(pod));
        }
        if pod.deleting {
            // Its runner is going; whether it took a request shows when it is gone.
            return Step::Wait(None);
        }
    }
    if !done.recorded {
        return Step::RecordPod;
    }
    if pod.node.is_none() {
        return Step::Wait(None);
    }
    if done.taken_over && done.log == LogState::Unread {
        return Step::ReadLog;
    }
    if observed.stream == Stream::Detached {
        return Step::Attach;
    }
    if observed.stream == Stream::Ready && !run.started {
        return match &observed.isolation {
            Verdict::Met => Step::Send,
            // The runner says so by itself once it knows more.
            Verdict::Pending => Step::Wait(None),
            Verdict::Missing(text) => Step::Finish(End::IsolationUnavailable(text.clone())),
        };
    }
    if !run.started && !done.delivered {
        return Step::Wait(None);
    }
    if run.running_for >= observed.timeout + GIVE_UP_AFTER {
        return Step::StopPod;
    }
    if let Some(unanswered) = run
        .unanswered_for
        .filter(|_| observed.stream == Stream::Sent && !run.started)
    {
        return match ANSWER_PATIENCE.checked_sub(unanswered) {
            Some(left) if !left.is_zero() => Step::Wait(Some(left)),
            _ => Step::Attach,
        };
    }
    if run.started && !done.running_recorded {
        if observed.live || run.running_for >= RUNNING_AFTER {
            return Step::RecordRunning;
        }
        return Step::Wait(Some(RUNNING_AFTER.saturating_sub(run.running_for)));
    }
    Step::Wait(Some(
        (observed.timeout + GIVE_UP_AFTER).saturating_sub(run.running_for),
    ))
}

/// What held up a Pod that never got ready.
fn obstacle(pod: &PodView) -> End {
    if let Some(message) = &pod.image_error {
        return End::ImagePull(message.clone());
    }
    if let (None, message) = (&pod.node, &pod.unschedulable) {
        return End::Unschedulable(message.clone().unwrap_or_default());
    }
    if let Some(cause) = &pod.cause {
        return cause.clone();
    }
    if let Some(message) = &pod.start_error {
        return End::Internal(format!("its container could not be started: {message}"));
    }
    End::Internal("its Pod did not become ready within the queue's patience".to_owned())
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
