//! Decides which request runs. A supervisor may crash and its successor repeat what it had sent, so the same
//! frame can come twice; the program must run once.

use std::collections::HashSet;

use codeexec_runner::frames::{Request, ToRunner};

/// So many requests a runner serves at most, for it remembers all of them.
const MOST_SERVED: usize = 1000;

/// What a frame calls for.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// Nothing.
    Silence,
    /// To say `ready`.
    Ready,
    /// To say `started` again.
    Started(String),
    /// To start the program.
    Run(Box<Request>),
}

/// What came in so far.
#[derive(Debug, Default)]
pub struct Intake {
    ready: bool,
    held: Option<Box<Request>>,
    taken: Option<String>,
    served: HashSet<String>,
}

impl Intake {
    /// Takes the next frame.
    pub fn frame(&mut self, frame: ToRunner) -> Answer {
        match (frame, &self.taken) {
            (ToRunner::Hello, _) if self.ready => Answer::Ready,
            // Ready is said once in any case, which answers this.
            (ToRunner::Hello, _) => Answer::Silence,
            (ToRunner::Request(request), Some(taken)) if request.uid == *taken && self.held.is_none() => {
                Answer::Started(request.uid)
            }
            (ToRunner::Request(_), Some(_)) => Answer::Silence,
            // What became of it stands in the log.
            (ToRunner::Request(request), None) if self.served.contains(&request.uid) => Answer::Silence,
            (ToRunner::Request(request), None) => {
                self.taken = Some(request.uid.clone());
                if self.ready {
                    Answer::Run(request)
                } else {
                    self.held = Some(request);
                    Answer::Silence
                }
            }
        }
    }

    /// Notes that the interpreter is ready, and returns the request that came before that.
    pub fn ready(&mut self) -> Option<Box<Request>> {
        self.ready = true;
        self.held.take()
    }

    /// Notes that the program has ended, so that the next may be taken for an interpreter that is not ready yet;
    /// whether there may be a next one.
    pub fn ended(&mut self) -> bool {
        self.ready = false;
        self.served.extend(self.taken.take());
        self.served.len() < MOST_SERVED
    }

    /// How many programs have ended.
    pub fn served(&self) -> u32 {
        // There are never more than a few.
        u32::try_from(self.served.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uid: &str) -> Box<Request> {
        Box::new(Request {
            uid: uid.to_owned(),
            ..Request::default()
        })
    }

    fn ready() -> Intake {
        let mut intake = Intake::default();
        assert_eq!(intake.ready(), None);
        intake
    }

    #[test]
    fn the_first_request_runs_and_its_repeat_does_not() {
        let mut intake = ready();
        assert_eq!(
            intake.frame(ToRunner::Request(request("a"))),
            Answer::Run(request("a"))
        );
        assert_eq!(
            intake.frame(ToRunner::Request(request("a"))),
            Answer::Started("a".to_owned())
        );
        assert_eq!(intake.frame(ToRunner::Request(request("b"))), Answer::Silence);
    }

    #[test]
    fn a_request_before_ready_waits_and_keeps_others_out() {
        let mut intake = Intake::default();
        assert_eq!(intake.frame(ToRunner::Hello), Answer::Silence);
        assert_eq!(intake.frame(ToRunner::Request(request("a"))), Answer::Silence);
        assert_eq!(intake.frame(ToRunner::Request(request("a"))), Answer::Silence);
        assert_eq!(intake.frame(ToRunner::Request(request("b"))), Answer::Silence);
        assert_eq!(intake.ready(), Some(request("a")));
        assert_eq!(
            intake.frame(ToRunner::Request(request("a"))),
            Answer::Started("a".to_owned())
        );
    }

    #[test]
    fn what_was_served_never_runs_again() {
        let mut intake = ready();
        intake.frame(ToRunner::Request(request("a")));
        assert!(intake.ended());
        assert_eq!(intake.frame(ToRunner::Hello), Answer::Silence);
        assert_eq!(intake.frame(ToRunner::Request(request("a"))), Answer::Silence);
        assert_eq!(intake.frame(ToRunner::Request(request("b"))), Answer::Silence);
        assert_eq!(intake.ready(), Some(request("b")));
        assert_eq!(intake.frame(ToRunner::Request(request("a"))), Answer::Silence);
        assert_eq!(intake.served(), 1);
    }

    #[test]
    fn a_runner_remembers_as_many_as_it_serves_and_serves_no_more() {
        let mut intake = Intake::default();
        for number in 1..=MOST_SERVED {
            intake.frame(ToRunner::Request(request(&number.to_string())));
            assert!(intake.ready().is_some());
            assert_eq!(intake.ended(), number < MOST_SERVED);
        }
    }

    #[test]
    fn hello_is_answered_whenever_it_is_asked() {
        let mut intake = ready();
        assert_eq!(intake.frame(ToRunner::Hello), Answer::Ready);
        intake.frame(ToRunner::Request(request("a")));
        assert_eq!(intake.frame(ToRunner::Hello), Answer::Ready);
    }
}
