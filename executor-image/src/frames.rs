//! The frames that the runner and its supervisor (operator or local backend) exchange.
//!
//! ```text
//!   \n codeexec/1 <json bytes> <sha256 of the json, hex> <json> \n
//! ```
//!
//! A frame begins with a newline so that half a frame of a writer that died can't spoil the next one, and
//! carries its length and digest so that what is torn is dropped instead of believed. Text between frames is
//! ignored: the container's log holds the same bytes as the stream, and may hold more.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// First word of every frame: the protocol and its version.
const MAGIC: &str = "codeexec/1";

/// Longest JSON of a frame. A request is the largest: 40 kB of code, 64 KiB of stdin that may escape to six
/// times that, 64 KiB of arguments and environment likewise, and 256 KiB of files; together below 1.5 MB. A result
/// file stays below that too, for it has to fit into a status.
pub const MAX_FRAME_BYTES: usize = 2 * 1024 * 1024;

/// Magic, length, digest and the spaces between.
const MAX_HEADER_BYTES: usize = 128;

/// What a supervisor tells the runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ToRunner {
    /// Asks for [`FromRunner::Ready`]: one printed at the start is missed by whoever attaches later.
    Hello,
    /// A program to run.
    Request(Box<Request>),
}

/// What the runner tells its supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum FromRunner {
    /// The interpreter stands in its sandbox and waits for a request.
    Ready(Ready),
    /// The request was taken; the program's first byte runs after this. Answers a repeat of the request too.
    Started(Started),
    /// What the program printed.
    Output(Output),
    /// A file that it left as a result. All of them come after its last output.
    File(ResultFile),
    /// How it ended. The last frame of that program, and of the runner too where it is not kept.
    Result(Box<RunResult>),
}

/// One program and what it gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The uid of the CodeExecution. The runner takes one request at a time, and recognizes a repeat by this.
    pub uid: String,
    /// Python source.
    pub code: String,
    /// Standard input; empty means end of file at once.
    #[serde(default)]
    pub stdin: String,
    /// `sys.argv[1:]`.
    #[serde(default)]
    pub args: Vec<String>,
    /// Added to the program's environment, in this order.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Written below the work directory, by the sandboxed side, before the program starts.
    #[serde(default)]
    pub files: Vec<RequestFile>,
    /// When the program is killed, in milliseconds after its start.
    pub timeout_ms: u64,
    /// How much of its output is kept.
    pub limits: OutputLimits,
    /// Whether the runner shall serve another request after this one: it then removes whatever the program left,
    /// starts a fresh interpreter and says [`FromRunner::Ready`] again. It exits all the same where it can't be
    /// sure that nothing is left, and after a result that is no program's own end. Where there is no Landlock it
    /// always does: a program may have written anywhere.
    #[serde(default)]
    pub keep: bool,
}

/// A file of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestFile {
    /// Relative to the work directory.
    pub path: String,
    /// Base64.
    pub content: String,
}

/// Bounds on what is kept of both streams together; what follows is counted and dropped. Result files get what the
/// streams leave of the encoded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputLimits {
    /// Bytes as printed.
    pub bytes: usize,
    /// Bytes as [the Kubernetes API server encodes them](crate::encoding::encoded_len).
    pub encoded_bytes: usize,
}

impl Default for OutputLimits {
    /// The plan's 1 MB, and the 900 KB that a status has room for at least.
    fn default() -> Self {
        Self {
            bytes: 1024 * 1024,
            encoded_bytes: 900 * 1000,
        }
    }
}

/// The runner's report before it takes a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// Which layers are in force around the interpreter.
    pub isolation: IsolationReport,
    /// What the Pod's network lets through, as far as it is known. Said again once nothing in it is pending.
    #[serde(default)]
    pub network: NetworkReport,
    /// Version of the runner.
    pub runner_version: String,
    /// `sys.version` up to its first space, such as `3.11.2`.
    pub python_version: String,
    /// How many requests this runner has served, each to its result: tells this report from one of before the last
    /// program.
    #[serde(default)]
    pub served: u32,
}

/// Which layers of isolation the runner put in force, and which it found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IsolationReport {
    /// Whether /proc/self/uid_map maps this process into a user namespace of its own.
    pub user_namespace: bool,
    /// Whether the system-call filter is on.
    pub seccomp: bool,
    /// The Landlock ABI enforced; 0 where there is none.
    pub landlock_abi: i32,
    /// Whether no_new_privs is on.
    pub no_new_privileges: bool,
}

/// What the network of the Pod lets through, apart from the program's own filter, which lets nothing through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkReport {
    /// The Kubernetes API's Service.
    pub kubernetes_api: Reach,
    /// The cloud's metadata address.
    pub metadata: Reach,
    /// The cluster's DNS.
    pub dns: Reach,
}

impl NetworkReport {
    /// Its three targets.
    #[must_use]
    pub fn targets(&self) -> [Reach; 3] {
        [self.kubernetes_api, self.metadata, self.dns]
    }

    /// Whether something in it may still be found out.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.targets().contains(&Reach::Pending)
    }
}

/// Whether a target can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// Not known yet.
    #[default]
    Pending,
    /// It refused the connection, or nobody answered for 1.2 s.
    Blocked,
    /// It took the connection.
    Reachable,
    /// It can't be found out, for want of an address.
    Unknown,
}

/// Names the execution whose program starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The request's uid.
    pub uid: String,
}

/// A piece of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Which one.
    pub stream: Stream,
    /// Counts the pieces of both streams of one program together from 0, so that a reader sees what it missed.
    pub seq: u64,
    /// What was printed, whole characters; invalid UTF-8 became U+FFFD.
    pub data: String,
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A file that the program left as a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultFile {
    /// Goes on where the [`Output`] pieces ended.
    pub seq: u64,
    /// Where it stood below the results folder: at most 255 bytes, no control characters.
    pub path: String,
    /// Its media type, by its name and its content, such as `image/png`.
    pub mime_type: String,
    /// Base64.
    pub content: String,
}

/// How the program ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// The request's uid.
    pub uid: String,
    /// What ended it.
    pub ended: Ended,
    /// Whether the kernel's count of processes killed for want of memory rose while it ran.
    pub oom_killed: bool,
    /// What it printed to standard output.
    pub stdout: StreamTotals,
    /// What it printed to standard error.
    pub stderr: StreamTotals,
    /// What it left as result files. A runner of before there were any says nothing of them.
    #[serde(default)]
    pub files: FileTotals,
    /// From its start to its end, in milliseconds.
    pub run_ms: u64,
    /// CPU time of all its processes, in milliseconds.
    pub cpu_ms: u64,
    /// Most memory resident at once in one of its processes, in bytes.
    pub peak_memory_bytes: u64,
    /// What the Pod's network let through, as far as it was known by the program's end.
    #[serde(default)]
    pub network: NetworkReport,
}

/// What ended a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "camelCase")]
pub enum Ended {
    /// It exited.
    Exited {
        /// With this code.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// This one.
        signal: i32,
    },
    /// The runner killed it at its deadline.
    DeadlineExceeded,
    /// The runner killed it because it made more processes and threads than it may have.
    TooManyProcesses {
        /// That many it may have.
        most: u64,
    },
    /// The runner killed it because the Pod was told to stop.
    Terminated,
    /// The runner could not run it; the program is not to blame.
    Failed {
        /// Why.
        message: String,
    },
}

/// What one stream came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTotals {
    /// Bytes that the program wrote.
    pub bytes: u64,
    /// Whether some of them were dropped.
    pub truncated: bool,
    /// SHA-256, in hex, of the text in its [`Output`] frames.
    pub sha256: String,
}

/// What the result files came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTotals {
    /// How many [`ResultFile`] frames there are.
    pub count: usize,
    /// Whether there was something in the results folder that no frame holds.
    pub dropped: bool,
    /// SHA-256, in hex, of what is in those frames; empty where there is none.
    pub sha256: String,
}

impl FileTotals {
    /// Of these files, besides which some were dropped or not.
    #[must_use]
    pub fn of(files: &[ResultFile], dropped: bool) -> Self {
        let mut digest = Sha256::new();
        for file in files {
            for part in [&file.path, &file.mime_type, &file.content] {
                digest.update(part.as_bytes());
                // None of the three has one in it.
                digest.update(b"\0");
            }
        }
        Self {
            count: files.len(),
            dropped,
            sha256: if files.is_empty() {
                String::new()
            } else {
                hex(&digest.finalize())
            },
        }
    }
}

/// Writes a frame.
#[must_use]
pub fn encode<T: Serialize>(frame: &T) -> Vec<u8> {
    // Frames hold strings, numbers and lists of them: nothing that serde_json can refuse.
    #[allow(clippy::expect_used)]
    let json = serde_json::to_string(frame).expect("a frame is plain data");
    let digest = hex(&Sha256::digest(json.as_bytes()));
    format!("\n{MAGIC} {} {digest} {json}\n", json.len()).into_bytes()
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // Writing to a String can't fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// Reads frames out of a byte stream that may be torn, mixed with other text, or hostile.
///
/// Keeps at most one line of [`MAX_FRAME_BYTES`]; a longer one is skipped to its end.
#[derive(Debug)]
pub struct Decoder<T> {
    line: Vec<u8>,
    overlong: bool,
    frame: PhantomData<fn() -> T>,
}

impl<T> Default for Decoder<T> {
    fn default() -> Self {
        Self {
            line: Vec::new(),
            overlong: false,
            frame: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> {
    /// Takes the next bytes and returns the frames that they complete, in order.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<T> {
        let mut frames = Vec::new();
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.append(&bytes[..end]);
            if !self.overlong {
                frames.extend(parse_line(&self.line));
            }
            self.line.clear();
            self.overlong = false;
            bytes = &bytes[end + 1..];
        }
        self.append(bytes);
        frames
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.overlong || self.line.len() + bytes.len() > MAX_FRAME_BYTES + MAX_HEADER_BYTES {
            self.overlong = true;
            self.line.clear();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }
}

/// The frame in a line, or nothing if the line is not exactly one intact frame.
fn parse_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.splitn(4, ' ');
    let (magic, length, digest, json) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if magic != MAGIC || length.parse() != Ok(json.len()) || hex(&Sha256::digest(json.as_bytes())) != digest {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn started(uid: &str) -> FromRunner {
        FromRunner::Started(Started { uid: uid.to_owned() })
    }

    #[test]
    fn frames_survive_being_cut_at_every_byte() {
        let bytes = [encode(&started("a")), encode(&started("b"))].concat();
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::<FromRunner>::default();
            let mut frames = decoder.push(&bytes[..cut]);
            frames.extend(decoder.push(&bytes[cut..]));
            assert_eq!(frames, [started("a"), started("b")], "cut at {cut}");
        }
    }

    #[test]
    fn half_a_frame_does_not_spoil_the_next() {
        let whole = encode(&started("a"));
        for half in 0..whole.len() - 1 {
            let mut decoder = Decoder::<FromRunner>::default();
            let frames = decoder.push(&[&whole[..half], &whole[..]].concat());
            assert_eq!(frames, [started("a")], "after {half} bytes of a dead writer");
        }
    }

    #[test]
    fn a_frame_whose_text_was_changed_is_dropped() {
        let mut bytes = encode(&started("a"));
        let at = bytes.len() - 5;
        bytes[at] ^= 1;
        assert!(Decoder::<FromRunner>::default().push(&bytes).is_empty());
    }

    #[test]
    fn text_around_frames_is_ignored_and_an_endless_line_costs_no_memory() {
        let mut decoder = Decoder::<FromRunner>::default();
        let junk = vec![b'x'; 1024 * 1024];
        for _ in 0..8 {
            assert!(decoder.push(&junk).is_empty());
        }
        assert!(decoder.line.capacity() <= MAX_FRAME_BYTES + MAX_HEADER_BYTES + junk.len());
        assert_eq!(decoder.push(&encode(&started("a"))), [started("a")]);
    }

    proptest! {
        // Each reads some megabytes.
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(16)))]

        #[test]
        fn no_stream_makes_the_decoder_keep_more_than_a_line(
            chunks in vec((0..MAX_FRAME_BYTES / 2, any::<bool>()), 1..10),
        ) {
            const LONGEST: usize = MAX_FRAME_BYTES + MAX_HEADER_BYTES;
            let mut decoder = Decoder::<FromRunner>::default();
            for (length, ends_the_line) in chunks {
                let mut chunk = vec![b'x'; length];
                if ends_the_line {
                    chunk.push(b'\n');
                }
                decoder.push(&chunk);
                prop_assert!(decoder.line.len() <= LONGEST);
                // It doubles when it grows.
                prop_assert!(decoder.line.capacity() <= 2 * LONGEST);
            }
        }
    }
}
