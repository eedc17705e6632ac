//! Who waits for which execution.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codeexec_crds::CodeExecutionStatus;
use tokio::sync::oneshot;

use super::record::Record;

/// What a waiter is told.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The execution ended.
    Ended(Box<CodeExecutionStatus>),
    /// The object is gone, or no longer ours to see.
    Gone,
}

/// Every waiter of this replica. Results for which there is none are dropped on arrival.
#[derive(Clone, Debug, Default)]
pub struct Waiters {
    by_name: Arc<Mutex<HashMap<String, Vec<Entry>>>>,
}

#[derive(Debug)]
struct Entry {
    /// Tells apart those that wait for the same execution, which retries do.
    number: u64,
    /// Known once the create was answered. The name alone is ours too, but somebody may delete the object and
    /// make another of the same name, which is then another execution.
    uid: Option<String>,
    /// watch --news--> the request that waits
    news_tx: oneshot::Sender<News>,
}

/// One waiter's end. Dropping it ends the waiting.
#[derive(Debug)]
pub struct Waiter {
    name: String,
    number: u64,
    waiters: Waiters,
    /// watch --news--> the request that waits
    pub news_rx: oneshot::Receiver<News>,
}

impl Waiters {
    /// Begins to wait. Done before the object is created: its end may be seen before the create is answered.
    #[must_use]
    pub fn register(&self, name: &str) -> Waiter {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (news_tx, news_rx) = oneshot::channel();
        let entry = Entry {
            number,
            uid: None,
            news_tx,
        };
        self.lock().entry(name.to_owned()).or_default().push(entry);
        Waiter {
            name: name.to_owned(),
            number,
            waiters: self.clone(),
            news_rx,
        }
    }

    /// Tells the waiter of an object that was added, modified or read.
    pub fn seen(&self, record: Record) {
        let (name, uid) = (record.metadata.name.clone(), record.metadata.uid.clone());
        if let Some(end) = record.into_end() {
            self.tell(name.as_deref(), uid.as_deref(), News::Ended(Box::new(end)));
        }
    }

    /// Tells the waiter of an object that was deleted. What it reached before stands.
    pub fn deleted(&self, record: Record) {
        let (name, uid) = (record.metadata.name.clone(), record.metadata.uid.clone());
        let news = match record.into_end() {
            Some(end) => News::Ended(Box::new(end)),
            None => News::Gone,
        };
        self.tell(name.as_deref(), uid.as_deref(), news);
    }

    /// Tells the waiter of an object that could not be found, once it is known to have existed.
    pub fn missing(&self, name: &str) {
        let uids: Vec<String> = {
            let waiters = self.lock();
            let entries = waiters.get(name).into_iter().flatten();
            entries.filter_map(|entry| entry.uid.clone()).collect()
        };
        for uid in uids {
            self.tell(Some(name), Some(&uid), News::Gone);
        }
    }

    /// The names that somebody waits for.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn tell(&self, name: Option<&str>, uid: Option<&str>, news: News) {
        let Some(name) = name else { return };
        let mut waiters = self.lock();
        let Some(entries) = waiters.get_mut(name) else {
            return;
        };
        let is_meant = |entry: &mut Entry| entry.uid.is_none() || entry.uid.as_deref() == uid;
        let told: Vec<Entry> = entries.extract_if(.., is_meant).collect();
        if entries.is_empty() {
            waiters.remove(name);
        }
        let mut told = told.into_iter();
        let first = told.next();
        for entry in told {
            // Whoever waited may have gone this moment.
            let _ = entry.news_tx.send(news.clone());
        }
        if let Some(entry) = first {
            let _ = entry.news_tx.send(news);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Entry>>> {
        // Nothing in here can panic halfway through a change.
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Notes the uid that the create was answered with.
    pub fn created(&self, uid: &str) {
        let mut waiters = self.waiters.lock();
        let mut entries = waiters.get_mut(&self.name).into_iter().flatten();
        if let Some(entry) = entries.find(|entry| entry.number == self.number) {
            entry.uid = Some(uid.to_owned());
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock();
        if let Some(entries) = waiters.get_mut(&self.name) {
            entries.retain(|entry| entry.number != self.number);
            if entries.is_empty() {
                waiters.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use codeexec_crds::Phase;

    use super::*;

    fn record(name: &str, uid: &str, phase: Phase) -> Record {
        let mut record = Record::default();
        record.metadata.name = Some(name.to_owned());
        record.metadata.uid = Some(uid.to_owned());
        record.status = Some(CodeExecutionStatus {
            phase: Some(phase),
            ..CodeExecutionStatus::default()
        });
        record
    }

    fn told(waiter: &mut Waiter) -> Option<News> {
        waiter.news_rx.try_recv().ok()
    }

    #[test]
    fn an_end_that_is_seen_before_the_create_is_answered_is_not_lost() {
        let waiters = Waiters::default();
        let mut waiter = waiters.register("a");
        waiters.seen(record("a", "1", Phase::Succeeded));
        waiter.created("1");
        assert!(matches!(told(&mut waiter), Some(News::Ended(_))));
    }

    #[test]
    fn only_an_end_is_news() {
        let waiters = Waiters::default();
        let mut waiter = waiters.register("a");
        waiters.seen(record("a", "1", Phase::Queued));
        waiters.seen(record("a", "1", Phase::Running));
        waiters.seen(Record::default());
        assert_eq!(told(&mut waiter), None);
        waiters.seen(record("a", "1", Phase::Cancelled));
        assert!(told(&mut waiter).is_some());
    }

    #[test]
    fn another_object_of_the_same_name_is_not_meant() {
        let waiters = Waiters::default();
        let mut waiter = waiters.register("a");
        waiter.created("1");
        waiters.seen(record("a", "2", Phase::Succeeded));
        assert_eq!(told(&mut waiter), None);
    }

    #[test]
    fn all_who_wait_for_the_same_are_told_and_one_that_leaves_takes_nobody_along() {
        let waiters = Waiters::default();
        let (mut one, other, mut third) = (
            waiters.register("a"),
            waiters.register("a"),
            waiters.register("a"),
        );
        drop(other);
        third.created("1");
        waiters.seen(record("a", "1", Phase::Succeeded));
        assert!(matches!(told(&mut one), Some(News::Ended(_))));
        assert!(matches!(told(&mut third), Some(News::Ended(_))));
        drop((one, third));
        assert!(waiters.names().is_empty());
    }

    #[test]
    fn results_that_nobody_waits_for_leave_nothing_behind() {
        let waiters = Waiters::default();
        waiters.seen(record("a", "1", Phase::Succeeded));
        drop(waiters.register("b"));
        assert!(waiters.names().is_empty());
    }

    #[test]
    fn deletion_is_told_but_an_end_reached_before_it_stands() {
        let waiters = Waiters::default();
        let (mut one, mut other) = (waiters.register("a"), waiters.register("b"));
        waiters.deleted(record("a", "1", Phase::Running));
        waiters.deleted(record("b", "2", Phase::Succeeded));
        assert_eq!(told(&mut one), Some(News::Gone));
        assert!(matches!(told(&mut other), Some(News::Ended(_))));
    }

    #[test]
    fn an_object_that_was_never_seen_is_not_missing() {
        let waiters = Waiters::default();
        let mut waiter = waiters.register("a");
        waiters.missing("a");
        assert_eq!(told(&mut waiter), None);
        waiter.created("1");
        waiters.missing("a");
        assert_eq!(told(&mut waiter), Some(News::Gone));
    }
}
