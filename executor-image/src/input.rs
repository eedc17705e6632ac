//! Standard input, whose other end may go and come back.

use std::time::{Duration, Instant};

use codeexec_runner::frames::{Decoder, ToRunner};

/// What is read at once.
const CHUNK: usize = 64 * 1024;
/// How often it is looked at again after its end: an attach that went may come back.
const RETRY: Duration = Duration::from_millis(250);

/// What was read of it, as far as that is no whole frame yet.
#[derive(Debug, Default)]
pub struct Input {
    decoder: Decoder<ToRunner>,
    ended: Option<Instant>,
}

impl Input {
    /// When to look at it again; nothing where it tells by itself.
    pub fn retry(&self, now: Instant) -> Option<Instant> {
        self.ended.map(|ended| ended + RETRY).filter(|retry| *retry > now)
    }

    /// The frames that are whole with what is there.
    pub fn read(&mut self) -> Vec<ToRunner> {
        let mut buffer = vec![0; CHUNK];
        let read = rustix::io::read(rustix::stdio::stdin(), &mut buffer).unwrap_or(0);
        self.ended = (read == 0).then(Instant::now);
        self.decoder.push(&buffer[..read])
    }
}
