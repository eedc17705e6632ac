//! Writes frames to standard output from a thread of its own.
//!
//! ```text
//!   supervisor ──frames_tx──▶ writer thread ──▶ fd 1
//! ```
//!
//! Nobody may be reading there. What ends the program must not wait for that, so the queue takes everything;
//! it is bounded by what the output's limits let into it.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use codeexec_runner::frames::{FromRunner, encode};
use rustix::process::Pid;

enum Message {
    Bytes(Vec<u8>),
    Flushed(SyncSender<()>),
}

/// The way to the writer thread.
#[derive(Debug)]
pub struct Writer {
    frames_tx: Sender<Message>,
    thread: Pid,
}

impl Writer {
    /// Starts the thread.
    pub fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (frames_tx, frames_rx) = mpsc::channel();
        let (thread_tx, thread_rx) = mpsc::sync_channel(1);
        thread::Builder::new().name("writer".to_owned()).spawn(move || {
            // The one who asked waits for it.
            let _ = thread_tx.send(rustix::thread::gettid());
            write_all(sink, &frames_rx);
        })?;
        let thread = thread_rx.recv().map_err(io::Error::other)?;
        Ok(Self { frames_tx, thread })
    }

    /// The thread's number.
    pub fn thread(&self) -> Pid {
        self.thread
    }

    /// Queues a frame.
    pub fn send(&self, frame: &FromRunner) {
        // The thread ends only where its sink is gone, and then nobody is left to be told.
        let _ = self.frames_tx.send(Message::Bytes(encode(frame)));
    }

    /// Waits until all that was queued is written; whether it was, within `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        let (flushed_tx, flushed_rx) = mpsc::sync_channel(1);
        self.frames_tx.send(Message::Flushed(flushed_tx)).is_ok() && flushed_rx.recv_timeout(patience).is_ok()
    }
}

fn write_all(mut sink: impl Write, frames_rx: &Receiver<Message>) {
    for message in frames_rx {
        match message {
            Message::Bytes(bytes) => {
                if sink.write_all(&bytes).and_then(|()| sink.flush()).is_err() {
                    return;
                }
            }
            Message::Flushed(flushed_tx) => {
                // Whoever asked may have run out of patience.
                let _ = flushed_tx.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codeexec_runner::frames::Started;

    fn started() -> FromRunner {
        FromRunner::Started(Started { uid: "u".to_owned() })
    }

    #[test]
    fn a_flush_waits_for_the_frames_before_it() {
        let (mut reader, sink) = io::pipe().expect("a pipe");
        let writer = Writer::start(sink).expect("a thread");
        writer.send(&started());
        assert!(writer.flush(Duration::from_secs(5)));
        drop(writer);
        let mut written = Vec::new();
        io::Read::read_to_end(&mut reader, &mut written).expect("the pipe ends with its writer");
        assert_eq!(written, encode(&started()));
    }

    #[test]
    fn a_reader_that_is_stuck_delays_nobody() {
        let (reader, sink) = io::pipe().expect("a pipe");
        let writer = Writer::start(sink).expect("a thread");
        for _ in 0..10_000 {
            writer.send(&started());
        }
        assert!(!writer.flush(Duration::from_millis(1)));
        drop(reader);
    }

    #[test]
    fn a_reader_that_is_gone_is_noticed() {
        let (reader, sink) = io::pipe().expect("a pipe");
        drop(reader);
        let writer = Writer::start(sink).expect("a thread");
        writer.send(&started());
        assert!(!writer.flush(Duration::from_secs(5)));
    }
}
