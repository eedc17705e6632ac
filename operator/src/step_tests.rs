use super::*;
use crate::observe::Terminated;

const TIMEOUT: Duration = Duration::from_secs(30);

/// An execution whose Pod is bound and recorded.
fn bound() -> Observed {
    Observed {
        timeout: TIMEOUT,
        isolation: Verdict::Met,
        pod: PodState::Exists(Box::new(PodView {
            node: Some("n".into()),
            ..PodView::default()
        })),
        done: Done {
            recorded: true,
            ..Done::default()
        },
        ..Observed::default()
    }
}

fn running() -> Observed {
    Observed {
        stream: Stream::Sent,
        run: Run {
            started: true,
            ..Run::default()
        },
        done: Done {
            delivered: true,
            ..bound().done
        },
        ..bound()
    }
}

fn pod(change: impl FnOnce(&mut PodView)) -> PodState {
    let mut view = PodView {
        node: Some("n".into()),
        ..PodView::default()
    };
    change(&mut view);
    PodState::Exists(Box::new(view))
}

fn ended_pod() -> PodState {
    pod(|view| view.ended = true)
}

#[test]
fn a_new_execution_goes_from_pod_to_record_to_stream_to_request() {
    let mut observed = Observed {
        timeout: TIMEOUT,
        ..Observed::default()
    };
    assert_eq!(next_step(&observed), Step::Enter);
    observed.turn = Turn::Waiting;
    assert_eq!(next_step(&observed), Step::Wait(None));
    observed.turn = Turn::Warm;
    assert_eq!(next_step(&observed), Step::Claim);
    observed.turn = Turn::Cold;
    assert_eq!(next_step(&observed), Step::CreatePod);
    observed.pod = PodState::Exists(Box::default());
    assert_eq!(next_step(&observed), Step::RecordPod);
    observed.done.recorded = true;
    assert_eq!(next_step(&observed), Step::Wait(None));
    observed.pod = pod(|_| {});
    assert_eq!(next_step(&observed), Step::Attach);
    observed.stream = Stream::Connecting;
    assert_eq!(next_step(&observed), Step::Wait(None));
    observed.stream = Stream::Ready;
    observed.isolation = Verdict::Met;
    assert_eq!(next_step(&observed), Step::Send);
    observed.stream = Stream::Sent;
    observed.done.delivered = true;
    assert!(matches!(next_step(&observed), Step::Wait(Some(_))));
}

#[test]
fn a_request_without_an_answer_is_sent_again_on_a_new_stream() {
    let sent = |seconds| Observed {
        stream: Stream::Sent,
        run: Run {
            unanswered_for: Some(Duration::from_secs(seconds)),
            ..Run::default()
        },
        done: Done {
            delivered: true,
            ..bound().done
        },
        ..bound()
    };
    assert_eq!(next_step(&sent(1)), Step::Wait(Some(Duration::from_secs(2))));
    assert_eq!(next_step(&sent(3)), Step::Attach);
    let attached = Observed {
        stream: Stream::Ready,
        ..sent(4)
    };
    assert_eq!(next_step(&attached), Step::Send);
}

#[test]
fn nothing_is_sent_into_a_pod_that_lacks_what_is_required() {
    let mut observed = Observed {
        stream: Stream::Ready,
        isolation: Verdict::Pending,
        ..bound()
    };
    assert_eq!(next_step(&observed), Step::Wait(None));
    observed.isolation = Verdict::Missing("no seccomp".to_owned());
    assert_eq!(
        next_step(&observed),
        Step::Finish(End::IsolationUnavailable("no seccomp".to_owned()))
    );
    observed.pod = PodState::NotCreated;
    assert_eq!(
        next_step(&observed),
        Step::Finish(End::IsolationUnavailable("no seccomp".to_owned()))
    );
}

#[test]
fn nothing_is_sent_before_the_pod_is_recorded() {
    let observed = Observed {
        stream: Stream::Ready,
        done: Done::default(),
        ..bound()
    };
    assert_eq!(next_step(&observed), Step::RecordPod);
}

#[test]
fn a_program_counts_as_running_only_after_a_while() {
    let mut observed = running();
    assert_eq!(next_step(&observed), Step::Wait(Some(RUNNING_AFTER)));
    observed.run.running_for = RUNNING_AFTER;
    assert_eq!(next_step(&observed), Step::RecordRunning);
    observed.done.running_recorded = true;
    assert!(matches!(next_step(&observed), Step::Wait(Some(_))));
}

#[test]
fn a_program_that_somebody_looks_on_at_counts_as_running_at_once() {
    let mut observed = Observed {
        live: true,
        ..running()
    };
    assert_eq!(next_step(&observed), Step::RecordRunning);
    observed.run.result = true;
    observed.run.whole = true;
    assert_eq!(next_step(&observed), Step::Finish(End::Reported));
}

#[test]
fn a_whole_result_ends_it_and_a_torn_one_sends_to_the_log_first() {
    let mut observed = running();
    observed.run.result = true;
    assert_eq!(next_step(&observed), Step::ReadLog);
    observed.done.log = LogState::Lost;
    assert_eq!(next_step(&observed), Step::Finish(End::Reported));
    observed.done.log = LogState::Unread;
    observed.run.whole = true;
    assert_eq!(next_step(&observed), Step::Finish(End::Reported));
}

#[test]
fn a_run_stopped_from_outside_waits_a_moment_for_the_pod_to_say_by_what() {
    let mut observed = running();
    observed.run = Run {
        result: true,
        whole: true,
        stopped_for: Some(Duration::ZERO),
        ..observed.run
    };
    assert_eq!(next_step(&observed), Step::Wait(Some(CAUSE_PATIENCE)));
    observed.pod = pod(|view| view.cause = Some(End::Evicted("disk".into())));
    assert_eq!(next_step(&observed), Step::Finish(End::Evicted("disk".into())));
    observed.pod = pod(|_| {});
    observed.run.stopped_for = Some(CAUSE_PATIENCE);
    assert_eq!(next_step(&observed), Step::Finish(End::Reported));
}

#[test]
fn who_takes_over_reads_the_log_before_anything_is_sent() {
    let mut observed = bound();
    observed.done.taken_over = true;
    observed.stream = Stream::Ready;
    assert_eq!(next_step(&observed), Step::ReadLog);
    observed.done.log = LogState::ReadRunning;
    assert_eq!(next_step(&observed), Step::Send);
    observed.run.started = true;
    assert!(matches!(next_step(&observed), Step::Wait(Some(_))));
}

#[test]
fn a_lost_stream_is_opened_again_and_a_request_without_an_answer_sent_again() {
    let mut observed = running();
    observed.stream = Stream::Detached;
    assert_eq!(next_step(&observed), Step::Attach);
    observed.run.started = false;
    observed.stream = Stream::Ready;
    assert_eq!(next_step(&observed), Step::Send);
}

#[test]
fn a_pod_that_never_got_the_request_is_replaced_a_bounded_number_of_times() {
    let mut observed = bound();
    observed.pod = PodState::Gone(None);
    assert_eq!(next_step(&observed), Step::NextAttempt);
    observed.done.attempt = MAX_ATTEMPTS - 1;
    assert_eq!(next_step(&observed), Step::Finish(End::PodDeleted));
    observed.done.attempt = 0;
    observed.patience_over = true;
    assert_eq!(next_step(&observed), Step::Finish(End::PodDeleted));
}

#[test]
fn a_pod_that_may_have_run_the_program_is_never_replaced() {
    let mut sent = running();
    sent.run.started = false;
    sent.pod = PodState::Gone(None);
    assert_eq!(next_step(&sent), Step::Finish(End::PodDeleted));

    let mut taken_over = bound();
    taken_over.done.taken_over = true;
    taken_over.pod = PodState::Gone(None);
    assert_eq!(next_step(&taken_over), Step::Finish(End::PodDeleted));

    let mut log_lost = bound();
    log_lost.done = Done {
        taken_over: true,
        log: LogState::Lost,
        ..log_lost.done
    };
    log_lost.pod = ended_pod();
    assert_eq!(next_step(&log_lost), Step::Finish(End::Reported));
}

#[test]
fn an_ended_pod_s_log_decides_whether_its_program_ran() {
    let mut observed = running();
    observed.run.started = false;
    observed.pod = ended_pod();
    assert_eq!(next_step(&observed), Step::ReadLog);
    observed.done.log = LogState::ReadEnded;
    assert_eq!(next_step(&observed), Step::NextAttempt);
    observed.run.started = true;
    assert_eq!(next_step(&observed), Step::Finish(End::Reported));
}

#[test]
fn a_runner_that_can_t_start_says_why_in_the_end() {
    let mut observed = bound();
    observed.done = Done {
        attempt: MAX_ATTEMPTS - 1,
        log: LogState::ReadEnded,
        ..observed.done
    };
    observed.pod = pod(|view| {
        view.ended = true;
        view.terminated = Some(Terminated {
            exit_code: 71,
            message: Some("no python3".into()),
        });
    });
    let Step::Finish(End::Internal(why)) = next_step(&observed) else {
        panic!("it did not finish")
    };
    assert!(why.contains("71") && why.contains("no python3"), "{why}");
}

#[test]
fn what_befell_the_pod_is_the_cause() {
    for cause in [
        End::OutOfMemory,
        End::Evicted("disk".into()),
        End::PodDeadline,
        End::NodeLost("n".into()),
    ] {
        let mut observed = running();
        observed.done.log = LogState::ReadEnded;
        observed.pod = pod(|view| {
            view.ended = true;
            view.cause = Some(cause.clone());
        });
        assert_eq!(next_step(&observed), Step::Finish(cause));
    }
}

#[test]
fn a_pod_that_failed_while_its_program_still_runs_is_stopped_and_keeps_its_cause() {
    let mut observed = running();
    observed.pod = pod(|view| {
        view.failing = true;
        view.cause = Some(End::Evicted("disk".into()));
    });
    assert_eq!(next_step(&observed), Step::StopPod);
    observed.done = Done {
        stopping_for: Some(STOP_PATIENCE),
        log: LogState::Lost,
        ..observed.done
    };
    assert_eq!(next_step(&observed), Step::Finish(End::Evicted("disk".into())));
}

#[test]
fn the_queue_s_patience_ends_with_what_held_it_up() {
    let impatient = |pod: PodState| {
        next_step(&Observed {
            patience_over: true,
            pod,
            stream: Stream::Connecting,
            ..bound()
        })
    };
    assert_eq!(
        impatient(pod(|view| view.image_error = Some("no such image".into()))),
        Step::Finish(End::ImagePull("no such image".into()))
    );
    assert_eq!(
        impatient(pod(|view| {
            view.node = None;
            view.unschedulable = Some("0/1 nodes".into());
        })),
        Step::Finish(End::Unschedulable("0/1 nodes".into()))
    );
    let refusal = Refusal {
        end: End::QuotaExceeded("pods".into()),
        retry_now: false,
        lasting: false,
    };
    assert_eq!(
        impatient(PodState::Refused(refusal)),
        Step::Finish(End::QuotaExceeded("pods".into()))
    );
}

#[test]
fn patience_does_not_end_what_has_started() {
    let observed = Observed {
        patience_over: true,
        ..running()
    };
    assert!(matches!(next_step(&observed), Step::Wait(Some(_))));
}

#[test]
fn cancelling_before_there_is_a_pod_runs_nothing() {
    let observed = Observed {
        cancel: true,
        ..Observed::default()
    };
    assert_eq!(next_step(&observed), Step::Finish(End::Cancelled));
}

#[test]
fn cancelling_a_running_program_stops_its_pod_and_waits_for_its_report() {
    let mut observed = Observed {
        cancel: true,
        ..running()
    };
    assert_eq!(next_step(&observed), Step::StopPod);
    observed.done.stopping_for = Some(Duration::ZERO);
    assert_eq!(next_step(&observed), Step::Wait(Some(STOP_PATIENCE)));
    observed.run.result = true;
    observed.run.whole = true;
    assert_eq!(next_step(&observed), Step::Finish(End::Cancelled));
    observed.run.result = false;
    observed.done = Done {
        stopping_for: Some(STOP_PATIENCE),
        log: LogState::Lost,
        ..observed.done
    };
    assert_eq!(next_step(&observed), Step::Finish(End::Cancelled));
}

#[test]
fn a_runner_that_never_reports_is_given_up() {
    let mut observed = running();
    observed.done.running_recorded = true;
    observed.run.running_for = TIMEOUT + GIVE_UP_AFTER;
    assert_eq!(next_step(&observed), Step::StopPod);
    observed.done.stopping_for = Some(STOP_PATIENCE);
    observed.done.log = LogState::ReadRunning;
    assert_eq!(next_step(&observed), Step::Finish(End::PodDeadline));
}

#[test]
fn a_deleted_or_finished_execution_is_let_go() {
    assert_eq!(
        next_step(&Observed {
            gone: true,
            ..running()
        }),
        Step::Abandon
    );
    assert_eq!(
        next_step(&Observed {
            finished: true,
            ..running()
        }),
        Step::Abandon
    );
}

#[test]
fn a_spec_that_breaks_a_bound_never_gets_a_pod() {
    let observed = Observed {
        violation: Some("code must not be blank".into()),
        ..Observed::default()
    };
    assert_eq!(
        next_step(&observed),
        Step::Finish(End::Rejected("code must not be blank".into()))
    );
}
