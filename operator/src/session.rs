//! The attach stream of one Pod: opened from the moment the Pod is bound, opened again when it breaks.
//!
//! ```text
//!   driver --Request--> session --frames--> runner
//!   driver <--Event---- session <--frames-- runner
//! ```
//!
//! The stream is always drained, whatever the driver does: an attached stream that nobody reads stops the
//! container's output, and its log with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use codeexec_crds::EXECUTOR_CONTAINER;
use codeexec_runner::frames::{self, Decoder, FromRunner, Request, ToRunner};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::failpoints::Failpoint;

/// Pause between tries to attach: the container comes up at any moment, and each try costs the API server and
/// the kubelet about a millisecond. Pods that start together share the tries: on a small node a try for each of
/// eight Pods every 15 ms would take half a core, which their start then lacks.
const RETRY: Duration = Duration::from_millis(15);

/// After this many quick tries the pause grows: the image is being pulled, or the node is busy.
const QUICK_TRIES: u32 = 200;

/// The pause then.
const SLOW_RETRY: Duration = Duration::from_millis(250);

/// How long one try may take; the API server answers at once while there is no container.
const TRY_DEADLINE: Duration = Duration::from_secs(10);

/// How long a runner may stay silent after a `hello` before it gets another.
const HELLO_AGAIN: Duration = Duration::from_secs(1);

/// Buffers of the stream, in bytes. kube's default of 1024 would cut a request into hundreds of messages.
const BUFFER: usize = 256 * 1024;

/// Opens streams to the executor Pods.
#[derive(Clone)]
pub struct Attacher {
    pods: Api<Pod>,
    /// How many streams are being opened.
    opening: Arc<AtomicU32>,
}

impl Attacher {
    /// Attaches to these Pods.
    #[must_use]
    pub fn new(pods: Api<Pod>) -> Self {
        Self {
            pods,
            opening: Arc::default(),
        }
    }

    /// Tries until there is a container to attach to.
    async fn attach(&self, pod: &str) -> AttachedProcess {
        let params = AttachParams {
            container: Some(EXECUTOR_CONTAINER.to_owned()),
            stdin: true,
            stdout: true,
            stderr: false,
            tty: false,
            max_stdin_buf_size: Some(BUFFER),
            max_stdout_buf_size: Some(BUFFER),
            max_stderr_buf_size: None,
        };
        let opening = Opening::begin(&self.opening);
        for tried in 0_u32.. {
            match tokio::time::timeout(TRY_DEADLINE, self.pods.attach(pod, &params)).await {
                Ok(Ok(process)) => return process,
                Ok(Err(error)) => tracing::trace!(pod, %error, "not attached yet"),
                Err(_) => tracing::debug!(pod, "no answer to attach"),
            }
            tokio::time::sleep(pause(tried, opening.count())).await;
        }
        unreachable!("the loop above has no end")
    }
}

/// How long to wait after this many tries, while so many streams are being opened.
fn pause(tried: u32, opening: u32) -> Duration {
    if tried < QUICK_TRIES {
        (RETRY * opening).min(SLOW_RETRY)
    } else {
        SLOW_RETRY
    }
}

/// Counts a stream that is being opened, for as long as it lives.
struct Opening<'a>(&'a AtomicU32);

impl<'a> Opening<'a> {
    fn begin(all: &'a AtomicU32) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all)
    }

    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What comes out of a session.
#[derive(Debug)]
pub enum Event {
    /// A stream was opened; the runner has been asked whether it is ready.
    Attached,
    /// A frame came.
    Frame(FromRunner),
    /// The request was written to the stream.
    Sent,
    /// The stream broke; another is being opened. A request that had no answer must be sent again.
    Broken,
}

/// A handle on the task that keeps the stream. Dropping it closes the stream.
pub struct Session {
    requests_tx: mpsc::Sender<(Request, Failpoint)>,
    events_rx: mpsc::UnboundedReceiver<Event>,
    _stop: DropGuard,
}

impl Session {
    /// Starts to open a stream to a Pod that is bound. `news`, where there is one, is told of every event.
    #[must_use]
    pub fn open(attacher: Attacher, pod: String, failpoint: Failpoint, news: Option<Arc<Notify>>) -> Self {
        let (requests_tx, requests_rx) = mpsc::channel(1);
        let (events_tx, events_rx) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let stream = StreamTask {
            attacher,
            pod,
            failpoint,
            requests_rx,
            events_tx,
            news,
        };
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = stream.run() => {}
            }
        });
        Self {
            requests_tx,
            events_rx,
            _stop: stop.drop_guard(),
        }
    }

    /// The next event; never ends while the session lives.
    pub async fn next(&mut self) -> Option<Event> {
        self.events_rx.recv().await
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events_rx.try_recv().ok()
    }

    /// Sends the request. [`Event::Sent`] follows, or [`Event::Broken`].
    pub fn send(&self, request: Request, failpoint: Failpoint) {
        // Full means that one is under way already, which the runner would answer just the same.
        let _ = self.requests_tx.try_send((request, failpoint));
    }
}

struct StreamTask {
    attacher: Attacher,
    pod: String,
    failpoint: Failpoint,
    requests_rx: mpsc::Receiver<(Request, Failpoint)>,
    events_tx: mpsc::UnboundedSender<Event>,
    news: Option<Arc<Notify>>,
}

impl StreamTask {
    async fn run(mut self) {
        loop {
            let process = self.attacher.attach(&self.pod).await;
            self.failpoint.hit("after-attach");
            if !self.tell(Event::Attached) {
                return;
            }
            if let Err(error) = self.converse(process).await {
                tracing::debug!(pod = self.pod, %error, "attach stream broke");
            }
            if !self.tell(Event::Broken) {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Whether somebody is left to tell: without a receiver the driver is done, and the stream about to be closed.
    fn tell(&mut self, event: Event) -> bool {
        let idle = matches!(
            event,
            Event::Attached | Event::Broken | Event::Frame(FromRunner::Ready(_))
        );
        // Who waits for an idle Pod has no use for the news of a program.
        self.news = self.news.take().filter(|_| idle);
        let told = self.events_tx.send(event).is_ok();
        if let Some(news) = &self.news {
            news.notify_one();
        }
        told
    }

    /// Speaks with the runner until the stream breaks.
    async fn converse(&mut self, mut process: AttachedProcess) -> std::io::Result<()> {
        let missing = || std::io::Error::other("the stream has no stdin or stdout");
        let mut stdin = process.stdin().ok_or_else(missing)?;
        let mut stdout = process.stdout().ok_or_else(missing)?;
        // Neither of the two ends where the connection broke: kube lets go of its halves without a word, and the
        // buffers in between stay open. That it ended at all shows here alone.
        let mut over = std::pin::pin!(process.take_status().ok_or_else(missing)?);
        let mut decoder = Decoder::<FromRunner>::default();
        let mut buffer = vec![0; 64 * 1024];
        let mut heard = false;
        stdin.write_all(&frames::encode(&ToRunner::Hello)).await?;
        stdin.flush().await?;
        loop {
            tokio::select! {
                // What came before the end is read before the end is looked at.
                biased;
                read = stdout.read(&mut buffer) => match read? {
                    0 => return Ok(()),
                    count => {
                        for frame in decoder.push(&buffer[..count]) {
                            heard = true;
                            self.tell(Event::Frame(frame));
                        }
                    }
                },
                Some((request, failpoint)) = self.requests_rx.recv() => {
                    let frame = frames::encode(&ToRunner::Request(Box::new(request)));
                    tokio::select! {
                        written = write(&mut stdin, &frame, &failpoint) => written?,
                        _ = &mut over => return Ok(()),
                    }
                    self.tell(Event::Sent);
                }
                _ = &mut over => return Ok(()),
                () = tokio::time::sleep(HELLO_AGAIN), if !heard => {
                    stdin.write_all(&frames::encode(&ToRunner::Hello)).await?;
                    stdin.flush().await?;
                }
            }
        }
    }
}

async fn write(
    stdin: &mut (impl tokio::io::AsyncWrite + Unpin),
    frame: &[u8],
    failpoint: &Failpoint,
) -> std::io::Result<()> {
    if failpoint.is("mid-frame") {
        stdin.write_all(&frame[..frame.len() / 2]).await?;
        stdin.flush().await?;
        // The bytes still have to leave the process: dying at once would only be `before-frame` again.
        tokio::time::sleep(Duration::from_millis(300)).await;
        failpoint.die("mid-frame");
    }
    stdin.write_all(frame).await?;
    stdin.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_are_opened_together_share_the_tries_of_one() {
        assert_eq!(pause(0, 1), RETRY);
        assert_eq!(pause(0, 8), RETRY * 8);
        assert_eq!(pause(0, 1000), SLOW_RETRY);
        assert_eq!(pause(QUICK_TRIES, 1), SLOW_RETRY);
        let opening = AtomicU32::new(0);
        let first = Opening::begin(&opening);
        assert_eq!(first.count(), 1);
        drop(Opening::begin(&opening));
        assert_eq!(first.count(), 1);
    }
}
