//! The arithmetic of docs/etcd.md, with the budget and the retention as they are: an etcd that is written to as fast as
//! a cluster runs programs, and compacted as the Kubernetes API server compacts it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use codeexec_crds::{ANNOTATION_EXPIRES_AT, ANNOTATION_SUMMARY, StoredBytes, Summary};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::{Budget, Costs, Room, WRITES_OF_A_RESULT};
use crate::retention::kept::{Bounds, Kept};

const MIB: u64 = 1 << 20;

/// The default `--quota-backend-bytes` of etcd, "a 2 GB etcd".
const QUOTA: u64 = 2048 * MIB;

/// The API server compacts every 5 minutes what is older than 5 minutes.
const COMPACTION_SECONDS: i64 = 300;

/// Spec, metadata and managedFields of an execution with a program of a few lines.
const OBJECT: u64 = 2_000;

/// What an execution's Pod costs: about 7 revisions of 7 KB.
const POD_WRITES: u64 = 50_000;

/// The defaults of the settings.
const BOUNDS: Bounds = Bounds {
    records: 20_000,
    record_bytes: 384 * MIB,
    output_bytes: 256 * MIB,
};

/// Every revision that etcd still has, as bytes that can be compacted from a second on.
#[derive(Default)]
struct Etcd {
    live: u64,
    superseded: VecDeque<(i64, u64)>,
    history: u64,
    peak: u64,
}

impl Etcd {
    fn write(&mut self, bytes: u64) {
        self.live += bytes;
    }

    /// A newer revision has come, or the deletion.
    fn supersede(&mut self, second: i64, bytes: u64) {
        self.live -= bytes;
        self.history += bytes;
        self.superseded.push_back((second, bytes));
    }

    fn pass(&mut self, second: i64) {
        self.peak = self.peak.max(self.live + self.history);
        if second % COMPACTION_SECONDS == 0 {
            while let Some((at, bytes)) = self.superseded.front().copied()
                && at <= second - COMPACTION_SECONDS
            {
                self.history -= bytes;
                self.superseded.pop_front();
            }
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn record(name: &str, second: i64, stored: StoredBytes) -> ObjectMeta {
    let summary = Summary {
        user: "alice".to_owned(),
        ended_at: Time(at(second)),
        stored,
        vcpu_seconds: 0.0,
        cost: 0.0,
    };
    let annotations = [
        (
            ANNOTATION_EXPIRES_AT.to_owned(),
            format!("{:.0}", at(second + 86_400)),
        ),
        (ANNOTATION_SUMMARY.to_owned(), summary.to_annotation()),
    ];
    ObjectMeta {
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        creation_timestamp: Some(Time(at(second))),
        annotations: Some(BTreeMap::from(annotations)),
        ..ObjectMeta::default()
    }
}

/// What a program left that printed so much.
fn printed(stdout: u64) -> StoredBytes {
    StoredBytes {
        stdout,
        ..StoredBytes::default()
    }
}

/// Runs `a_second` executions a second, each of which leaves `left`, for so many seconds.
fn run(seconds: i64, a_second: i64, left: StoredBytes, object: u64) -> (Etcd, Kept) {
    let mut budget = Budget::new(512 * MIB, Duration::from_secs(600), at(0));
    let (mut etcd, mut kept) = (Etcd::default(), Kept::default());
    let mut sizes: HashMap<String, StoredBytes> = HashMap::new();
    for second in 0..seconds {
        for number in 0..a_second {
            let name = format!("e{second}-{number}");
            // Created, and running: two revisions that are gone with the result. Likewise those of the Pod.
            let before = 2 * object;
            budget.spend(at(second), before);
            etcd.write(before + POD_WRITES);
            etcd.supersede(second, before + POD_WRITES);
            let whole = StoredBytes {
                rest: object + 5_000,
                ..left
            };
            let room = budget.take(
                at(second),
                Costs::of(|room| WRITES_OF_A_RESULT * room.kept(whole).total()),
            );
            let stored = room.kept(whole);
            // The result, and its labels.
            etcd.write(WRITES_OF_A_RESULT * stored.total());
            etcd.supersede(second, stored.total());
            kept.insert(&record(&name, second, stored));
            sizes.insert(name, stored);
        }
        for record in kept.due(at(second), &BOUNDS, 50) {
            let stored = sizes.remove(&*record.name).expect("a record");
            etcd.supersede(second, stored.total());
            kept.remove(&record.name);
        }
        for _ in 0..20 {
            let Some(record) = kept.next_to_cut(&BOUNDS) else {
                break;
            };
            let stored = sizes[&*record.name];
            let heads = Room::Heads.kept(stored);
            etcd.write(2 * heads.total());
            etcd.supersede(second, stored.total());
            etcd.supersede(second, heads.total());
            budget.spend(at(second), 2 * heads.total());
            kept.was_cut(&record.name, Some(heads));
            sizes.insert(record.name.to_string(), heads);
        }
        etcd.pass(second);
    }
    (etcd, kept)
}

#[test]
fn outputs_of_a_megabyte_as_fast_as_a_cluster_runs_programs_fit_into_a_2_gb_etcd() {
    for a_second in [1, 5, 20] {
        let (etcd, kept) = run(2400, a_second, printed(MIB), OBJECT);
        let peak = etcd.peak / MIB;
        assert!(etcd.peak < QUOTA, "{a_second} a second: {peak} MiB");
        assert!(
            kept.output_bytes() <= BOUNDS.output_bytes + 20 * MIB,
            "{a_second} a second"
        );
    }
}

#[test]
fn records_that_files_fill_to_their_bound_fit_as_well() {
    // The worst for what is cut: both streams and the files keep their most.
    let left = StoredBytes {
        stdout: 500_000,
        stderr: 400_000,
        files: 400_000,
        ..StoredBytes::default()
    };
    for a_second in [1, 5, 20] {
        let (etcd, kept) = run(2400, a_second, left, OBJECT);
        let peak = etcd.peak / MIB;
        assert!(etcd.peak < QUOTA, "{a_second} a second: {peak} MiB");
        assert!(
            kept.output_bytes() <= BOUNDS.output_bytes + 28 * MIB,
            "{a_second} a second"
        );
    }
}

#[test]
fn a_megabyte_comes_whole_as_long_as_there_are_few() {
    // One every two seconds would be 63 MiB a minute.
    let mut budget = Budget::new(512 * MIB, Duration::from_secs(600), at(0));
    let cost = WRITES_OF_A_RESULT * (MIB + 7_000);
    let costs = Costs::of(|room| if room == Room::Whole { cost } else { cost / 8 });
    let rooms: Vec<Room> = (0..1200)
        .step_by(3)
        .map(|second| budget.take(at(second), costs))
        .collect();
    assert!(rooms.iter().all(|room| *room == Room::Whole));
}

#[test]
fn twenty_thousand_records_and_their_outputs_fit_into_a_2_gb_etcd() {
    // Programs of 10,000 characters.
    let (etcd, kept) = run(2100, 10, printed(10_000), 12_000);
    let peak = etcd.peak / MIB;
    assert!(kept.records() >= 19_000, "{} records", kept.records());
    assert!(etcd.peak < QUOTA, "{peak} MiB");
}

#[test]
fn records_with_the_largest_specs_fit_as_well_and_are_fewer() {
    // 600 KB of input that encodes badly, one a second.
    let (etcd, kept) = run(2400, 1, printed(0), 600_000);
    let peak = etcd.peak / MIB;
    assert!(kept.record_bytes() <= BOUNDS.record_bytes + MIB);
    assert!(etcd.peak < QUOTA, "{peak} MiB");
}
