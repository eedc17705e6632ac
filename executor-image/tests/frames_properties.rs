//! What holds of every stream of frames, however torn, mixed or forged. `PROPTEST_CASES` makes it look longer.

use codeexec_runner::frames::{
    Decoder, Ended, FileTotals, FromRunner, IsolationReport, MAX_FRAME_BYTES, NetworkReport, Output, Ready,
    ResultFile, RunResult, Started, Stream, StreamTotals, ToRunner, encode, hex,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sha2::{Digest, Sha256};

/// What a frame begins with; programs print it too.
const MAGIC: &str = "codeexec/1";

/// Text of all kinds, and such as a frame consists of.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => any::<String>(),
        1 => Just(MAGIC.to_owned()),
        1 => Just(format!("\n{MAGIC} 2 ")),
        1 => Just("\n".to_owned()),
        1 => Just("\0\u{7f}\u{2028}\r\n".to_owned()),
        1 => Just(String::from_utf8_lossy(&encode(&started("inner"))).into_owned()),
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn started(uid: &str) -> FromRunner {
    FromRunner::Started(Started { uid: uid.to_owned() })
}

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]
}

fn totals() -> impl Strategy<Value = StreamTotals> {
    (any::<u64>(), any::<bool>(), text()).prop_map(|(bytes, truncated, sha256)| StreamTotals {
        bytes,
        truncated,
        sha256,
    })
}

fn ending() -> impl Strategy<Value = Ended> {
    prop_oneof![
        any::<i32>().prop_map(|code| Ended::Exited { code }),
        any::<i32>().prop_map(|signal| Ended::Signaled { signal }),
        Just(Ended::DeadlineExceeded),
        Just(Ended::Terminated),
        text().prop_map(|message| Ended::Failed { message }),
    ]
}

fn frame() -> impl Strategy<Value = FromRunner> {
    prop_oneof![
        (text(), text(), any::<i32>()).prop_map(|(runner_version, python_version, landlock_abi)| {
            FromRunner::Ready(Ready {
                isolation: IsolationReport {
                    landlock_abi,
                    ..IsolationReport::default()
                },
                network: NetworkReport::default(),
                runner_version,
                python_version,
                served: landlock_abi.unsigned_abs(),
            })
        }),
        text().prop_map(|uid| started(&uid)),
        (stream(), any::<u64>(), text()).prop_map(|(stream, seq, data)| FromRunner::Output(Output {
            stream,
            seq,
            data
        })),
        (any::<u64>(), text(), text(), text()).prop_map(|(seq, path, mime_type, content)| {
            FromRunner::File(ResultFile {
                seq,
                path,
                mime_type,
                content,
            })
        }),
        (text(), ending(), totals(), totals(), any::<u64>()).prop_map(
            |(uid, ended, stdout, stderr, number)| {
                FromRunner::Result(Box::new(RunResult {
                    uid,
                    ended,
                    oom_killed: number % 2 == 0,
                    files: FileTotals {
                        count: stdout.sha256.len(),
                        dropped: stdout.truncated,
                        sha256: stderr.sha256.clone(),
                    },
                    stdout,
                    stderr,
                    run_ms: number,
                    cpu_ms: number,
                    peak_memory_bytes: number,
                    network: NetworkReport::default(),
                }))
            }
        ),
    ]
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn json_of(frame: &FromRunner) -> String {
    serde_json::to_string(frame).unwrap_or_default()
}

/// A line that looks like a frame.
fn line(length: &str, digest: &str, json: &str) -> Vec<u8> {
    format!("\n{MAGIC} {length} {digest} {json}\n").into_bytes()
}

/// Bytes that hold no whole frame.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let other_length = prop_oneof![
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just(String::new()),
        Just(u64::MAX.to_string()),
        Just("9".repeat(200)),
        (100_000_u64..).prop_map(|length| length.to_string()),
    ];
    prop_oneof![
        vec(any::<u8>(), 0..200),
        text().prop_map(String::into_bytes).prop_filter(
            "text may quote a frame, which is one where it stands alone",
            |text| { decoded::<FromRunner>(text, &[text.len().max(1)]).is_empty() }
        ),
        Just(b"\n".to_vec()),
        Just(format!("\n{MAGIC} ").into_bytes()),
        // The writer died. So much of it is missing that what follows can't be the rest by chance.
        (frame(), any::<Index>()).prop_map(|(frame, at)| {
            let whole = encode(&frame);
            whole[..at.index(whole.len() - 8)].to_vec()
        }),
        (frame(), other_length).prop_map(|(frame, length)| {
            let json = json_of(&frame);
            line(&length, &digest(&json), &json)
        }),
        (frame(), text()).prop_map(|(frame, other)| {
            let json = json_of(&frame);
            line(&json.len().to_string(), &digest(&other), &json)
        }),
        // Whole, but nothing that a runner says.
        Just(encode(&ToRunner::Hello)),
        any::<Vec<u32>>().prop_map(|numbers| encode(&numbers)),
    ]
}

#[derive(Clone, Debug)]
enum Part {
    Whole(FromRunner),
    Noise(Vec<u8>),
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = prop_oneof![frame().prop_map(Part::Whole), noise().prop_map(Part::Noise)];
    vec(part, 0..8)
}

fn bytes_of(parts: &[Part]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|part| match part {
            Part::Whole(frame) => encode(frame),
            Part::Noise(noise) => noise.clone(),
        })
        .collect()
}

fn wholes(parts: Vec<Part>) -> Vec<FromRunner> {
    parts
        .into_iter()
        .filter_map(|part| match part {
            Part::Whole(frame) => Some(frame),
            Part::Noise(_) => None,
        })
        .collect()
}

/// Sizes of the pieces in which a stream comes, over and over.
fn chunks() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1_usize..8, 1_usize..2000], 1..8)
}

fn decoded<T: serde::de::DeserializeOwned>(mut bytes: &[u8], chunks: &[usize]) -> Vec<T> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for size in chunks.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (chunk, rest) = bytes.split_at(bytes.len().min(*size));
        frames.extend(decoder.push(chunk));
        bytes = rest;
    }
    frames
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(
        bytes in vec(any::<u8>(), 0..2000),
        chunks in chunks(),
    ) {
        prop_assert!(decoded::<FromRunner>(&bytes, &chunks).is_empty());
        prop_assert!(decoded::<ToRunner>(&bytes, &chunks).is_empty());
    }

    #[test]
    fn the_frames_that_were_written_whole_come_out_and_no_others(parts in parts(), chunks in chunks()) {
        let bytes = bytes_of(&parts);
        prop_assert_eq!(decoded::<FromRunner>(&bytes, &chunks), wholes(parts));
    }

    #[test]
    fn a_frame_with_one_byte_altered_is_the_same_or_none_and_its_neighbours_stand(
        frames in [frame(), frame(), frame()],
        at in any::<Index>(),
        other in 1..=u8::MAX,
    ) {
        let [before, mut altered, after] = frames.each_ref().map(encode);
        let at = at.index(altered.len());
        altered[at] ^= other;
        let found = decoded::<FromRunner>(&[before, altered, after].concat(), &[64]);
        let [before, original, after] = frames;
        prop_assert!(
            found == [before.clone(), after.clone()] || found == [before, original, after],
            "{:?}", found
        );
    }

    #[test]
    fn many_altered_bytes_make_no_frame_that_nobody_wrote(
        parts in parts(),
        changes in vec((any::<Index>(), any::<u8>()), 1..12),
        chunks in chunks(),
    ) {
        let mut bytes = bytes_of(&parts);
        if !bytes.is_empty() {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let written = wholes(parts);
        for frame in decoded::<FromRunner>(&bytes, &chunks) {
            prop_assert!(written.contains(&frame), "{:?}", frame);
        }
    }
}

proptest! {
    // Each of these reads some megabytes.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(32)))]

    #[test]
    fn a_line_that_is_longer_than_any_frame_has_none_in_it_and_hides_none_behind_it(
        length in MAX_FRAME_BYTES - 200..2 * MAX_FRAME_BYTES,
        chunk in prop_oneof![1024_usize..1024 * 1024, Just(usize::MAX)],
        begins_like_a_frame in any::<bool>(),
        frames in [frame(), frame()],
    ) {
        let [inside, behind] = frames;
        let mut line = if begins_like_a_frame {
            line(&length.to_string(), "", "")
        } else {
            Vec::new()
        };
        line.pop();
        line.resize(line.len() + length, b'x');
        let mut decoder = Decoder::<FromRunner>::default();
        for piece in line.chunks(chunk) {
            prop_assert_eq!(decoder.push(piece), []);
        }
        // Where the line was given up, it still is the same line.
        prop_assert_eq!(decoder.push(&encode(&inside)[1..]), []);
        prop_assert_eq!(decoder.push(&encode(&behind)), [behind]);
    }

    #[test]
    fn the_largest_frame_gets_through_and_a_larger_one_takes_nobody_with_it(
        length in MAX_FRAME_BYTES - 400..MAX_FRAME_BYTES + 400,
        chunk in 1024_usize..1024 * 1024,
        next in frame(),
    ) {
        let large = FromRunner::Output(Output {
            stream: Stream::Stdout,
            seq: 0,
            data: "x".repeat(length),
        });
        let is_a_frame = json_of(&large).len() <= MAX_FRAME_BYTES;
        let bytes = [encode(&large), encode(&next)].concat();
        let found = decoded::<FromRunner>(&bytes, &[chunk]);
        prop_assert!(
            found == [large, next.clone()] || !is_a_frame && found == [next],
            "{} frames", found.len()
        );
    }
}
