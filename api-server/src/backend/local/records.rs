//! What this server runs and has run: in memory, bounded, and gone with the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use codeexec_crds::{CodeExecutionSpec, CodeExecutionStatus, Phase};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live::Printed;
use crate::backend::{Execution, Job, Listed, Page, Query};

/// Most ended executions that are kept; the oldest go first.
const MOST_ENDED: usize = 1000;

/// Most bytes of what they printed and left, in all; the oldest go first.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// How an execution stands.
#[derive(Clone, Debug)]
pub enum State {
    /// It waits for its turn.
    Queued,
    /// Its sandbox comes up, or its program runs.
    Running,
    /// It ended so.
    Ended(Arc<CodeExecutionStatus>),
}

/// One execution.
#[derive(Clone, Debug)]
pub struct Record {
    spec: Arc<CodeExecutionSpec>,
    created: Timestamp,
    /// the program's task --state--> whoever looks
    pub state_rx: watch::Receiver<State>,
    /// What it has printed while it runs.
    pub printed: Printed,
    /// Ends it.
    pub cancel: CancellationToken,
}

impl Record {
    fn new(spec: &CodeExecutionSpec, state_rx: watch::Receiver<State>) -> Self {
        Self {
            spec: Arc::new(spec.clone()),
            // To the second, as Kubernetes records it.
            created: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default(),
            state_rx,
            printed: Printed::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// Whether it runs the same for the same user.
    #[must_use]
    pub fn is_of(&self, spec: &CodeExecutionSpec) -> bool {
        *self.spec == *spec
    }

    fn status(&self) -> Option<Arc<CodeExecutionStatus>> {
        match &*self.state_rx.borrow() {
            State::Ended(status) => Some(status.clone()),
            State::Queued | State::Running => None,
        }
    }

    fn phase(&self) -> Phase {
        match &*self.state_rx.borrow() {
            State::Queued => Phase::Queued,
            State::Running => Phase::Running,
            State::Ended(status) => status.phase.unwrap_or(Phase::Failed),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Records(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_id: BTreeMap<String, Record>,
    /// Those that ended, in that order.
    ended: VecDeque<Ended>,
    bytes: usize,
}

#[derive(Debug)]
struct Ended {
    id: String,
    bytes: usize,
    expires: Instant,
}

/// What came of opening a record.
#[derive(Debug)]
pub enum Opened {
    /// There is one now, and its task tells it how it stands.
    New(Record, watch::Sender<State>),
    /// There was one.
    Existing(Record),
}

impl Records {
    /// Opens the record of a job, or finds the one that has its name.
    #[must_use]
    pub fn open(&self, job: &Job) -> Opened {
        let mut table = self.lock();
        table.forget_expired();
        if let Some(record) = table.by_id.get(&job.id) {
            return Opened::Existing(record.clone());
        }
        let (state_tx, state_rx) = watch::channel(State::Queued);
        let record = Record::new(&job.spec, state_rx);
        table.by_id.insert(job.id.clone(), record.clone());
        Opened::New(record, state_tx)
    }

    /// Takes back the record of a job that was not taken on.
    pub fn discard(&self, id: &str) {
        self.lock().by_id.remove(id);
    }

    /// Notes that an execution has ended: from now on its record can be in the way of others.
    pub fn ended(&self, id: &str, status: &CodeExecutionStatus, ttl: Duration) {
        let mut table = self.lock();
        let bytes = weight(status) + table.by_id.get(id).map_or(0, |record| spec_weight(&record.spec));
        table.bytes += bytes;
        table.ended.push_back(Ended {
            id: id.to_owned(),
            bytes,
            expires: Instant::now() + ttl,
        });
        while table.ended.len() > MOST_ENDED || table.bytes > MOST_BYTES {
            table.forget_oldest();
        }
    }

    /// The record of that name.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Record> {
        let mut table = self.lock();
        table.forget_expired();
        table.by_id.get(id).cloned()
    }

    /// The execution of that name, with its result.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Execution> {
        let record = self.find(id)?;
        let status = match record.status() {
            Some(status) => Arc::unwrap_or_clone(status),
            None => CodeExecutionStatus {
                phase: Some(record.phase()),
                ..CodeExecutionStatus::default()
            },
        };
        Some(Execution {
            id: id.to_owned(),
            user: record.spec.user.clone(),
            created: record.created,
            status,
        })
    }

    /// A page of executions, in the order of their names.
    #[must_use]
    pub fn list(&self, query: &Query) -> Page {
        let mut table = self.lock();
        table.forget_expired();
        let after = query.after.as_deref().unwrap_or_default();
        let matching = table
            .by_id
            .range::<str, _>((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded))
            .map(|(id, record)| Listed {
                id: id.clone(),
                user: record.spec.user.clone(),
                phase: record.phase(),
                reason: record.status().and_then(|status| status.reason),
                created: record.created,
            })
            .filter(|listed| query.matches(listed));
        let mut items: Vec<Listed> = matching.take(query.limit + 1).collect();
        let has_more = items.len() > query.limit;
        items.truncate(query.limit);
        let next = items.last().filter(|_| has_more).map(|last| last.id.clone());
        Page { items, next }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in here can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.ended.pop_front() {
            self.bytes -= oldest.bytes;
            self.by_id.remove(&oldest.id);
        }
    }

    /// They are in the order of their ends, and all but those with a time to live of their own expire in it: one
    /// behind another waits for that, or for the bounds.
    fn forget_expired(&mut self) {
        let now = Instant::now();
        while self.ended.front().is_some_and(|oldest| oldest.expires <= now) {
            self.forget_oldest();
        }
    }
}

/// What a status holds that can be large.
fn weight(status: &CodeExecutionStatus) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let files = status.files.iter().flatten();
    let files: usize = files.map(|file| file.path.len() + file.content.len()).sum();
    text(&status.output) + text(&status.stderr) + text(&status.error) + files
}

fn spec_weight(spec: &CodeExecutionSpec) -> usize {
    let files: usize = spec.files.iter().flatten().map(|file| file.content.len()).sum();
    let args: usize = spec.args.iter().flatten().map(String::len).sum();
    let env: usize = spec
        .env
        .iter()
        .flatten()
        .map(|variable| variable.value.len())
        .sum();
    spec.code.len() + spec.stdin.as_ref().map_or(0, String::len) + files + args + env
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    fn job(id: &str) -> Job {
        Job {
            id: id.to_owned(),
            spec: CodeExecutionSpec::python("print(1)"),
            live: false,
        }
    }

    fn end(records: &Records, id: &str, bytes: usize, ttl: u64) {
        let Opened::New(_, state_tx) = records.open(&job(id)) else {
            panic!("{id} is there already")
        };
        let status = CodeExecutionStatus {
            phase: Some(Phase::Succeeded),
            output: Some("x".repeat(bytes)),
            ..CodeExecutionStatus::default()
        };
        records.ended(id, &status, Duration::from_secs(ttl));
        state_tx.send_replace(State::Ended(Arc::new(status)));
    }

    fn all() -> Query {
        Query {
            user: None,
            stage: None,
            since: None,
            after: None,
            limit: 10_000,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_ended_go_first_and_none_that_runs() {
        let records = Records::default();
        let _running = records.open(&job("running"));
        for number in 0..MOST_ENDED + 10 {
            end(&records, &format!("{number:05}"), 1, 60);
        }
        assert!(records.find("00009").is_none() && records.find("00010").is_some());
        assert!(records.find("running").is_some());
        assert_eq!(records.list(&all()).items.len(), MOST_ENDED + 1);
        // Large ones push out more.
        for number in 0..70 {
            end(&records, &format!("large-{number:02}"), 1 << 20, 60);
        }
        assert!(records.lock().bytes <= MOST_BYTES);
        assert!(records.find("large-05").is_none() && records.find("large-69").is_some());
        assert!(records.find("running").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn ended_ones_go_when_their_time_is_over() {
        let records = Records::default();
        end(&records, "a", 1, 60);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(records.get("a").is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(records.get("a").is_none());
        assert_eq!(records.lock().bytes, 0);
    }

    #[tokio::test]
    async fn the_same_name_is_opened_once() {
        let records = Records::default();
        assert!(matches!(records.open(&job("a")), Opened::New(..)));
        let Opened::Existing(record) = records.open(&job("a")) else {
            panic!("it was forgotten")
        };
        assert!(record.is_of(&job("a").spec));
        assert!(!record.is_of(&CodeExecutionSpec::python("print(2)")));
        records.discard("a");
        assert!(matches!(records.open(&job("a")), Opened::New(..)));
    }

    #[tokio::test]
    async fn pages_follow_each_other_without_gap_or_overlap() {
        let records = Records::default();
        for id in ["a", "b", "c", "d", "e"] {
            end(&records, id, 1, 60);
        }
        let (mut query, mut found) = (Query { limit: 2, ..all() }, vec![]);
        loop {
            let page = records.list(&query);
            found.extend(page.items.into_iter().map(|listed| listed.id));
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, ["a", "b", "c", "d", "e"]);
    }
}
