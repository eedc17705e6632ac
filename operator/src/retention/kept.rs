//! The finished records that are kept, in the orders in which they go. No I/O.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use codeexec_crds::{ANNOTATION_EXPIRES_AT, StoredBytes, Summary};
use codeexec_execution::budget::OBJECT_BYTES;
use jiff::Timestamp;
use kube::api::ObjectMeta;

use crate::etcd::Room;

/// What is kept at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Records.
    pub records: usize,
    /// Bytes of all records, apart from outputs that are longer than their heads.
    pub record_bytes: u64,
    /// Bytes of those outputs.
    pub output_bytes: u64,
}

/// A record that is to go, or to lose its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid, against a new object of the same name.
    pub uid: String,
}

#[derive(Debug)]
struct Entry {
    uid: String,
    expires: Timestamp,
    created: Timestamp,
    stored: StoredBytes,
}

type Order = BTreeSet<(Timestamp, Arc<str>)>;

/// The finished records.
#[derive(Debug, Default)]
pub struct Kept {
    by_name: HashMap<Arc<str>, Entry>,
    by_expiry: Order,
    by_age: Order,
    /// Those whose output is longer than its head, by age.
    with_output: Order,
    record_bytes: u64,
    output_bytes: u64,
}

/// Bytes that are gone once a record's texts are cut to their heads.
fn output_bytes(stored: StoredBytes) -> u64 {
    stored.total() - Room::Heads.kept(stored).total()
}

/// What a record without a readable summary counts as: an output as large as any, so that it is looked at.
fn unknown() -> StoredBytes {
    StoredBytes {
        stdout: OBJECT_BYTES as u64,
        ..StoredBytes::default()
    }
}

impl Kept {
    /// Takes a record up, or what is new of it.
    pub fn insert(&mut self, metadata: &ObjectMeta) {
        let (Some(name), Some(uid)) = (metadata.name.as_deref(), metadata.uid.clone()) else {
            return;
        };
        self.remove(name);
        let expires = metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(ANNOTATION_EXPIRES_AT))
            .and_then(|text| text.parse().ok());
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        let entry = Entry {
            uid,
            // One that somebody spoiled keeps a record until there are too many, rather than deleting it.
            expires: expires.unwrap_or(Timestamp::MAX),
            created: created.unwrap_or(Timestamp::MIN),
            stored: Summary::of(metadata).map_or_else(unknown, |summary| summary.stored),
        };
        let name: Arc<str> = name.into();
        self.by_expiry.insert((entry.expires, name.clone()));
        self.by_age.insert((entry.created, name.clone()));
        self.count(&name, entry.created, entry.stored);
        self.by_name.insert(name, entry);
    }

    /// Forgets a record.
    pub fn remove(&mut self, name: &str) {
        if let Some((name, entry)) = self.by_name.remove_entry(name) {
            self.by_expiry.remove(&(entry.expires, name.clone()));
            self.by_age.remove(&(entry.created, name.clone()));
            self.discount(&name, entry.created, entry.stored);
        }
    }

    /// Notes what a record takes since its output was cut; nothing where it can't be, so that it is left alone.
    pub fn was_cut(&mut self, name: &str, stored: Option<StoredBytes>) {
        if let Some((name, mut entry)) = self.by_name.remove_entry(name) {
            self.discount(&name, entry.created, entry.stored);
            entry.stored = stored.unwrap_or_else(|| Room::Heads.kept(entry.stored));
            self.count(&name, entry.created, entry.stored);
            self.by_name.insert(name, entry);
        }
    }

    /// What is to be deleted now, at most `most`: all that expired, then the oldest beyond the bounds.
    pub fn due(&self, now: Timestamp, bounds: &Bounds, most: usize) -> Vec<Record> {
        let expired = self.by_expiry.iter().take_while(|(at, _)| *at <= now);
        let surplus = self.by_name.len().saturating_sub(bounds.records);
        let mut excess = self.record_bytes.saturating_sub(bounds.record_bytes);
        let oldest = self.by_age.iter().enumerate().take_while(|(index, (_, name))| {
            let goes = *index < surplus || excess > 0;
            let bytes = self
                .by_name
                .get(name)
                .map_or(0, |entry| Room::Heads.kept(entry.stored).total());
            excess = excess.saturating_sub(bytes);
            goes
        });
        let oldest = oldest.map(|(_, key)| key);
        expired
            .chain(oldest)
            .take(most)
            .filter_map(|(_, name)| self.record(name))
            .collect()
    }

    /// The oldest record with an output, while there are more bytes of outputs than the bound.
    pub fn next_to_cut(&self, bounds: &Bounds) -> Option<Record> {
        if self.output_bytes <= bounds.output_bytes {
            return None;
        }
        self.record(&self.with_output.first()?.1)
    }

    /// How many there are.
    pub fn records(&self) -> usize {
        self.by_name.len()
    }

    /// Bytes of all of them, apart from outputs longer than their heads.
    pub fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Bytes of those outputs.
    pub fn output_bytes(&self) -> u64 {
        self.output_bytes
    }

    fn record(&self, name: &Arc<str>) -> Option<Record> {
        let uid = self.by_name.get(name)?.uid.clone();
        Some(Record {
            name: name.clone(),
            uid,
        })
    }

    fn count(&mut self, name: &Arc<str>, created: Timestamp, stored: StoredBytes) {
        let output = output_bytes(stored);
        self.output_bytes += output;
        self.record_bytes += stored.total() - output;
        if output > 0 {
            self.with_output.insert((created, name.clone()));
        }
    }

    fn discount(&mut self, name: &Arc<str>, created: Timestamp, stored: StoredBytes) {
        let output = output_bytes(stored);
        self.output_bytes -= output;
        self.record_bytes -= stored.total() - output;
        self.with_output.remove(&(created, name.clone()));
    }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
