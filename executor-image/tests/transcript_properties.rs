//! What a transcript adds up to, in whatever order frames come and whosever they are.

use codeexec_runner::Transcript;
use codeexec_runner::frames::{
    Ended, FileTotals, FromRunner, NetworkReport, Output, Ready, ResultFile, RunResult, Started, Stream,
    StreamTotals, encode, hex,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sha2::{Digest, Sha256};

const OWN: &str = "own";

fn started(uid: &str) -> FromRunner {
    FromRunner::Started(Started { uid: uid.to_owned() })
}

fn result(uid: &str, stdout: &str, stderr: &str, files: &[ResultFile]) -> FromRunner {
    let totals = |text: &str| StreamTotals {
        bytes: text.len() as u64,
        truncated: false,
        sha256: hex(&Sha256::digest(text.as_bytes())),
    };
    FromRunner::Result(Box::new(RunResult {
        uid: uid.to_owned(),
        ended: Ended::Exited { code: 0 },
        oom_killed: false,
        stdout: totals(stdout),
        stderr: totals(stderr),
        files: FileTotals::of(files, false),
        run_ms: 1,
        cpu_ms: 1,
        peak_memory_bytes: 1,
        network: NetworkReport::default(),
    }))
}

/// What one runner says of one program, and what that program printed and left.
#[derive(Clone, Debug)]
struct Run {
    frames: Vec<FromRunner>,
    stdout: String,
    stderr: String,
    files: Vec<ResultFile>,
}

fn run(uid: &'static str) -> impl Strategy<Value = Run> {
    run_that_prints(uid, "[a-z\n]{0,4}")
}

fn run_that_prints(uid: &'static str, text: &'static str) -> impl Strategy<Value = Run> {
    (vec((any::<bool>(), text), 0..6), vec(text, 0..3)).prop_map(move |(pieces, contents)| {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut frames = vec![FromRunner::Ready(Ready::default()), started(uid)];
        for (seq, (is_stdout, data)) in (0..).zip(pieces) {
            let (stream, text) = if is_stdout {
                (Stream::Stdout, &mut stdout)
            } else {
                (Stream::Stderr, &mut stderr)
            };
            text.push_str(&data);
            frames.push(FromRunner::Output(Output { stream, seq, data }));
        }
        let pieces = frames.len() - 2;
        let file = |(seq, content): (usize, String)| ResultFile {
            seq: seq as u64,
            path: content.clone(),
            mime_type: content.clone(),
            content,
        };
        let files: Vec<ResultFile> = (pieces..).zip(contents).map(file).collect();
        frames.extend(files.iter().cloned().map(FromRunner::File));
        frames.push(result(uid, &stdout, &stderr, &files));
        Run {
            frames,
            stdout,
            stderr,
            files,
        }
    })
}

/// What another execution's name may stand in without its output.
fn foreign() -> impl Strategy<Value = FromRunner> {
    prop_oneof![
        Just(FromRunner::Ready(Ready::default())),
        "[a-z]{0,3}".prop_map(|uid| started(&uid)),
        ("[a-z]{0,3}", "[a-z]{0,4}").prop_map(|(uid, text)| result(&uid, &text, "", &[])),
    ]
    .prop_filter("not the own one", |frame| match frame {
        FromRunner::Started(started) => started.uid != OWN,
        FromRunner::Result(result) => result.uid != OWN,
        _ => true,
    })
}

/// Puts a frame where it may stand: another one's `started` never comes between the own one and its result.
fn put(frames: &mut Vec<FromRunner>, at: Index, frame: FromRunner) {
    let place = |wanted: fn(&FromRunner) -> bool| frames.iter().position(wanted);
    let begin = place(|frame| *frame == started(OWN));
    let end = place(|frame| matches!(frame, FromRunner::Result(own) if own.uid == OWN));
    let places: Vec<usize> = (0..=frames.len())
        .filter(|&at| {
            !matches!(frame, FromRunner::Started(_))
                || begin.is_none_or(|begin| at <= begin)
                || end.is_some_and(|end| at > end)
        })
        .collect();
    frames.insert(*at.get(&places), frame);
}

/// The names of several that one runner serves.
const UIDS: [&str; 3] = ["a", "b", "c"];

/// What a runner says of several programs one after the other: each prints nothing but its own name.
fn several() -> impl Strategy<Value = [Run; 3]> {
    [
        run_that_prints(UIDS[0], "a{0,4}"),
        run_that_prints(UIDS[1], "b{0,4}"),
        run_that_prints(UIDS[2], "c{0,4}"),
    ]
}

fn frames_of(runs: &[Run]) -> Vec<FromRunner> {
    runs.iter().flat_map(|run| run.frames.clone()).collect()
}

fn log_of(frames: &[FromRunner]) -> Vec<u8> {
    frames.iter().flat_map(encode).collect()
}

fn told_of(uid: &str, frames: &[FromRunner]) -> Transcript {
    let mut transcript = Transcript::new(uid);
    frames.iter().for_each(|frame| transcript.push(frame.clone()));
    transcript
}

fn told(frames: impl IntoIterator<Item = FromRunner>) -> Transcript {
    let mut transcript = Transcript::new(OWN);
    frames.into_iter().for_each(|frame| transcript.push(frame));
    transcript
}

fn printed_and_left(transcript: &Transcript) -> String {
    let files = transcript.files().iter().map(|file| file.content.as_str());
    [transcript.stdout(), transcript.stderr()]
        .into_iter()
        .chain(files)
        .collect()
}

proptest! {
    #[test]
    fn repeats_and_what_names_others_change_nothing(
        run in run(OWN),
        repeated in vec((any::<Index>(), any::<Index>()), 0..6),
        strange in vec((any::<Index>(), foreign()), 0..6),
    ) {
        let mut frames = run.frames.clone();
        for (of, to) in repeated {
            // Only what was said already can be said again.
            let of = of.index(run.frames.len());
            let first = frames.iter().position(|frame| *frame == run.frames[of]).unwrap_or(0);
            let at = first + 1 + to.index(frames.len() - first);
            frames.insert(at, run.frames[of].clone());
        }
        for (at, frame) in strange {
            put(&mut frames, at, frame);
        }
        let log = log_of(&frames);
        for transcript in [told(frames), Transcript::from_log(OWN, &log)] {
            prop_assert!(transcript.is_whole(), "{:?}", transcript);
            prop_assert_eq!(transcript.stdout(), &run.stdout);
            prop_assert_eq!(transcript.stderr(), &run.stderr);
            prop_assert_eq!(transcript.files(), &run.files);
        }
    }

    #[test]
    fn whole_is_only_what_has_every_piece(
        run in run(OWN),
        picked in vec(any::<Index>(), 0..16),
        strange in vec((any::<Index>(), foreign()), 0..4),
    ) {
        let mut frames: Vec<FromRunner> = picked.iter().map(|at| at.get(&run.frames).clone()).collect();
        for (at, frame) in strange {
            frames.insert(at.index(frames.len() + 1), frame);
        }
        let is_own_start = |frame: &FromRunner| matches!(frame, FromRunner::Started(own) if own.uid == OWN);
        let is_own_end = |frame: &FromRunner| matches!(frame, FromRunner::Result(own) if own.uid == OWN);
        let (has_start, has_end) = (frames.iter().any(is_own_start), frames.iter().any(is_own_end));
        let transcript = told(frames);
        prop_assert_eq!(transcript.started(), has_start || has_end);
        prop_assert_eq!(transcript.result().is_some(), has_end);
        prop_assert!(transcript.result().is_none_or(|result| result.uid == OWN));
        if transcript.is_whole() {
            prop_assert_eq!(transcript.stdout(), &run.stdout);
            prop_assert_eq!(transcript.stderr(), &run.stderr);
            prop_assert_eq!(transcript.files(), &run.files);
        }
    }

    #[test]
    fn a_run_that_lacks_one_piece_with_text_is_not_whole(run in run(OWN), at in any::<Index>()) {
        let has_text = |frame: &FromRunner| match frame {
            FromRunner::Output(output) => !output.data.is_empty(),
            FromRunner::File(_) => true,
            FromRunner::Ready(_) | FromRunner::Started(_) | FromRunner::Result(_) => false,
        };
        let pieces: Vec<usize> = (0..run.frames.len()).filter(|at| has_text(&run.frames[*at])).collect();
        // No assumption: proptest gives up after a number of those, which many cases would reach.
        if pieces.is_empty() {
            return Ok(());
        }
        let mut frames = run.frames;
        frames.remove(*at.get(&pieces));
        prop_assert!(!told(frames).is_whole());
    }

    #[test]
    fn each_of_several_has_its_own_output_and_result(
        runs in several(),
        said_again in vec(any::<Index>(), 0..6),
        cut in any::<Index>(),
    ) {
        let mut frames = frames_of(&runs);
        for at in said_again {
            // A repeated request is answered while its program runs, a hello at any time.
            let at = at.index(frames.len());
            let again = match &frames[at] {
                FromRunner::Started(_) | FromRunner::Output(_) | FromRunner::File(_) => {
                    let last = frames[..=at].iter().rev().find(|frame| matches!(frame, FromRunner::Started(_)));
                    last.cloned()
                }
                FromRunner::Ready(_) | FromRunner::Result(_) => None,
            };
            frames.insert(at + 1, again.unwrap_or_else(|| FromRunner::Ready(Ready::default())));
        }
        let log = log_of(&frames);
        for (uid, run) in UIDS.into_iter().zip(&runs) {
            for transcript in [told_of(uid, &frames), Transcript::from_log(uid, &log)] {
                prop_assert!(transcript.is_whole(), "{:?}", transcript);
                prop_assert_eq!(transcript.result().map(|result| result.uid.as_str()), Some(uid));
                prop_assert_eq!(transcript.stdout(), &run.stdout);
                prop_assert_eq!(transcript.stderr(), &run.stderr);
                prop_assert_eq!(transcript.files(), &run.files);
            }
            // Read while the runner still writes it.
            let so_far = Transcript::from_log(uid, &log[..cut.index(log.len() + 1)]);
            prop_assert!(run.stdout.starts_with(so_far.stdout()) && run.stderr.starts_with(so_far.stderr()));
        }
        prop_assert!(!told_of("d", &frames).started());
    }

    #[test]
    fn whatever_is_lost_of_several_none_has_what_another_printed(
        runs in several(),
        lost in vec(any::<Index>(), 0..8),
    ) {
        let mut frames = frames_of(&runs);
        for at in lost {
            let at = at.index(frames.len());
            // Without its `started` nobody could tell whose it is, and only the result shows that it is not whole.
            if !matches!(frames[at], FromRunner::Started(_)) {
                frames.remove(at);
            }
        }
        for (uid, run) in UIDS.into_iter().zip(&runs) {
            let transcript = told_of(uid, &frames);
            let text = printed_and_left(&transcript);
            prop_assert!(text.chars().all(|letter| uid.contains(letter)), "{}: {:?}", uid, text);
            if transcript.is_whole() {
                prop_assert_eq!(transcript.stdout(), &run.stdout);
                prop_assert_eq!(transcript.stderr(), &run.stderr);
            }
        }
    }

    #[test]
    fn a_stream_that_was_attached_anywhere_shows_nothing_of_others(runs in several(), from in any::<Index>()) {
        let frames = frames_of(&runs);
        let late = &frames[from.index(frames.len())..];
        for (uid, run) in UIDS.into_iter().zip(&runs) {
            let transcript = told_of(uid, late);
            let text = printed_and_left(&transcript);
            prop_assert!(text.chars().all(|letter| uid.contains(letter)), "{}: {:?}", uid, text);
            if transcript.is_whole() {
                prop_assert_eq!(transcript.stdout(), &run.stdout);
            }
        }
    }
}
