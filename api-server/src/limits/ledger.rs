//! Who began how many executions in the last minute, and how many of them have not ended. No clock, no I/O.

use std::collections::{HashMap, VecDeque};

/// The window that a rate is counted over, in milliseconds.
pub const WINDOW_MS: i64 = 60_000;

/// Replicas that share what is left of a quota, at least one each: see [`Ledger::admit`].
const SHARES: u32 = 8;

/// Most entries kept of one user. More than any quota, so that it is reached only by somebody who creates
/// executions around the API server; the oldest go, and what is left still fills every quota.
const MAX_PER_USER: usize = 2 * MAX_QUOTA as usize;

/// Largest quota, of either kind.
pub const MAX_QUOTA: u32 = 10_000;

/// Milliseconds on a clock that never goes back; where it begins does not matter.
pub type Millis = i64;

/// A user, as the label of an execution names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserKey(pub u128);

/// An execution, by a hash of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExecutionKey(pub u64);

/// What a user may do; 0 leaves it unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Executions begun within any 60 seconds.
    pub per_minute: u32,
    /// Executions that have not ended.
    pub concurrent: u32,
}

/// How a user stands with the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The quota.
    pub limit: u32,
    /// What is left of it.
    pub remaining: u32,
    /// Until more is left, in milliseconds.
    pub reset_ms: i64,
}

/// What is said to somebody who wants to begin an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may begin, and is counted.
    Admitted {
        /// How the user stands with it; nothing where the rate is unbounded.
        standing: Option<Standing>,
        /// Whether it is counted from now on, and was not before.
        is_new: bool,
    },
    /// Another one of this user's has to be confirmed first.
    Wait,
    /// The rate is used up; nothing is left, and `reset_ms` is when something will be.
    TooMany(Standing),
    /// So many have not ended.
    TooManyAtOnce {
        /// The quota.
        limit: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Admitted here, and not over.
    Begun,
    /// Admitted here, and the client left before it was known whether there is such an execution.
    Abandoned,
    /// It exists, and is not over.
    Open,
    /// It is over.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Millis,
    key: ExecutionKey,
    state: State,
    /// Whether the watch has shown it.
    confirmed: bool,
}

impl Entry {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Begun | State::Open)
    }

    fn awaits_confirmation(&self) -> bool {
        !self.confirmed && self.state != State::Abandoned
    }
}

/// Where executions are counted.
#[derive(Debug)]
pub struct Ledger {
    /// Of each user in the order of their times.
    users: HashMap<UserKey, VecDeque<Entry>>,
    /// Whether a watch confirms what is admitted here. Without one there is nobody else who admits.
    is_shared: bool,
    /// After so long an execution is over, whether or not anybody has told.
    longest_ms: i64,
    swept: Millis,
}

impl Ledger {
    /// One that is shared with other replicas, by way of a watch, or not. Executions take `longest_ms` at most.
    #[must_use]
    pub fn new(is_shared: bool, longest_ms: i64) -> Self {
        Self {
            users: HashMap::new(),
            is_shared,
            longest_ms,
            swept: Millis::MIN,
        }
    }

    /// Lets an execution begin, or says why it must not.
    ///
    /// What another replica has admitted is known here only once the watch shows it. So while one of a user's
    /// executions is not confirmed, the next one waits. At the moment when a replica admits one, it has then
    /// seen everything up to its own last one, and found less than the quota: beyond the quota is no more than
    /// one execution a replica, however late the watch is. Where much is left, a replica may have a share of
    /// it under way at once; that is as strict for up to 8 replicas.
    pub fn admit(&mut self, user: UserKey, key: ExecutionKey, quota: Quota, now: Millis) -> Verdict {
        self.sweep(now);
        let longest_ms = self.longest_ms;
        let entries = self.users.entry(user).or_default();
        prune(entries, now, longest_ms);
        // A retry of what is counted is not counted again.
        let is_new = entries.iter().all(|entry| entry.key != key);
        if is_new {
            // A refusal leaves nothing behind: there was an entry already, or the quota would not be used up.
            if let Some(refusal) = judge(entries, quota, self.is_shared, now) {
                return refusal;
            }
            insert(
                entries,
                Entry {
                    at: now,
                    key,
                    state: State::Begun,
                    confirmed: false,
                },
            );
        }
        Verdict::Admitted {
            standing: standing(entries, quota, now),
            is_new,
        }
    }

    /// An execution that exists was seen; it began at `at`.
    pub fn seen(&mut self, user: UserKey, key: ExecutionKey, at: Millis, has_ended: bool, now: Millis) {
        self.sweep(now);
        let state = if has_ended { State::Ended } else { State::Open };
        let entry = Entry {
            at: at.min(now),
            key,
            state,
            confirmed: true,
        };
        if let Some(known) = self.find(user, key) {
            known.confirmed = true;
            if known.state != State::Ended {
                known.state = state;
            }
        } else if !is_stale(&entry, now, self.longest_ms) {
            insert(self.users.entry(user).or_default(), entry);
        }
    }

    /// An execution is over, or gone. It goes on counting toward the rate.
    pub fn ended(&mut self, user: UserKey, key: ExecutionKey) {
        if let Some(entry) = self.find(user, key) {
            entry.state = State::Ended;
        }
    }

    /// An execution that was admitted does not come to exist.
    pub fn refused(&mut self, user: UserKey, key: ExecutionKey) {
        // Once the watch has shown it, it does.
        if let Some(entries) = self.users.get_mut(&user) {
            entries.retain(|entry| entry.key != key || entry.confirmed);
        }
    }

    /// Nobody here will learn whether an execution that was admitted exists. It counts as if it did, but keeps
    /// nobody waiting.
    pub fn abandoned(&mut self, user: UserKey, key: ExecutionKey) {
        if let Some(entry) = self.find(user, key).filter(|entry| entry.state == State::Begun) {
            entry.state = State::Abandoned;
        }
    }

    fn find(&mut self, user: UserKey, key: ExecutionKey) -> Option<&mut Entry> {
        // Of the same key there is one; the newest are asked for most.
        let entries = self.users.get_mut(&user)?;
        entries.iter_mut().rev().find(|entry| entry.key == key)
    }

    /// Forgets users of long ago, once a window.
    fn sweep(&mut self, now: Millis) {
        if now.saturating_sub(self.swept) < WINDOW_MS {
            return;
        }
        self.swept = now;
        let longest_ms = self.longest_ms;
        self.users.retain(|_, entries| {
            prune(entries, now, longest_ms);
            !entries.is_empty()
        });
    }
}

/// Nothing where it may begin.
fn judge(entries: &VecDeque<Entry>, quota: Quota, is_shared: bool, now: Millis) -> Option<Verdict> {
    let recent = begun_within_window(entries, now);
    if let Some(standing) = standing(entries, quota, now)
        && recent >= standing.limit
    {
        return Some(Verdict::TooMany(standing));
    }
    let open = length(entries.iter().filter(|entry| entry.is_open()).count());
    if quota.concurrent > 0 && open >= quota.concurrent {
        return Some(Verdict::TooManyAtOnce {
            limit: quota.concurrent,
        });
    }
    let under_way = length(entries.iter().filter(|entry| entry.awaits_confirmation()).count());
    let share = |limit: u32, counted: u32| match limit {
        0 => u32::MAX,
        limit => (limit.saturating_sub(counted.saturating_sub(under_way)) / SHARES).max(1),
    };
    let shares = share(quota.per_minute, recent).min(share(quota.concurrent, open));
    (is_shared && under_way >= shares).then_some(Verdict::Wait)
}

fn standing(entries: &VecDeque<Entry>, quota: Quota, now: Millis) -> Option<Standing> {
    let limit = quota.per_minute;
    let recent = begun_within_window(entries, now);
    // The one whose end of counting leaves one more than now, or one at all.
    let next = entries.len() - recent as usize + (recent.saturating_sub(limit)) as usize;
    let reset_ms = entries.get(next).map_or(0, |entry| entry.at + WINDOW_MS - now);
    (limit > 0).then(|| Standing {
        limit,
        remaining: limit.saturating_sub(recent),
        reset_ms,
    })
}

fn begun_within_window(entries: &VecDeque<Entry>, now: Millis) -> u32 {
    let before = entries.partition_point(|entry| entry.at <= now - WINDOW_MS);
    length(entries.len() - before)
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn insert(entries: &mut VecDeque<Entry>, entry: Entry) {
    let place = entries.partition_point(|other| other.at <= entry.at);
    entries.insert(place, entry);
    if entries.len() > MAX_PER_USER {
        entries.pop_front();
    }
}

/// One that is stale behind one that is not waits for that, which is not for long.
fn prune(entries: &mut VecDeque<Entry>, now: Millis, longest_ms: i64) {
    while entries
        .front()
        .is_some_and(|entry| is_stale(entry, now, longest_ms))
    {
        entries.pop_front();
    }
    // One that nobody told the end of has ended all the same.
    for entry in entries
        .iter_mut()
        .take_while(|entry| entry.at <= now - longest_ms)
    {
        entry.state = State::Ended;
    }
}

fn is_stale(entry: &Entry, now: Millis, longest_ms: i64) -> bool {
    let age = now - entry.at;
    age >= WINDOW_MS && (!entry.is_open() || age >= longest_ms)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
