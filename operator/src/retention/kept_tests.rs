use std::collections::BTreeMap;

use codeexec_crds::ANNOTATION_SUMMARY;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;

const NEVER: &str = "2100-01-01T00:00:00Z";

const NO_BOUNDS: Bounds = Bounds {
    records: usize::MAX,
    record_bytes: u64::MAX,
    output_bytes: u64::MAX,
};

fn second(number: i64) -> Timestamp {
    Timestamp::from_second(number).expect("a time")
}

/// A finished record, by a builder.
struct Finished(ObjectMeta);

impl Finished {
    fn new(name: &str, created: i64) -> Self {
        Self(ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(format!("uid-{name}")),
            creation_timestamp: Some(Time(second(created))),
            annotations: Some(BTreeMap::from([(
                ANNOTATION_EXPIRES_AT.to_owned(),
                NEVER.to_owned(),
            )])),
            ..ObjectMeta::default()
        })
        .stored(0, 0)
    }

    fn annotation(mut self, name: &str, value: &str) -> Self {
        let annotations = self.0.annotations.get_or_insert_default();
        annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    fn expires(self, at: &str) -> Self {
        self.annotation(ANNOTATION_EXPIRES_AT, at)
    }

    fn stored(self, stdout: u64, rest: u64) -> Self {
        let stored = StoredBytes {
            stdout,
            rest,
            ..StoredBytes::default()
        };
        let summary = Summary {
            user: "alice".to_owned(),
            ended_at: Time(second(0)),
            stored,
            vcpu_seconds: 0.0,
            cost: 0.0,
        };
        self.annotation(ANNOTATION_SUMMARY, &summary.to_annotation())
    }
}

fn kept(records: impl IntoIterator<Item = Finished>) -> Kept {
    let mut kept = Kept::default();
    records
        .into_iter()
        .for_each(|Finished(metadata)| kept.insert(&metadata));
    kept
}

fn names(due: &[Record]) -> Vec<&str> {
    due.iter().map(|record| &*record.name).collect()
}

#[test]
fn records_go_when_their_time_is_over() {
    let mut kept = kept([
        Finished::new("late", 0).expires("1970-01-01T00:10:00Z"),
        Finished::new("soon", 1).expires("1970-01-01T00:00:10Z"),
    ]);
    assert_eq!(names(&kept.due(second(10), &NO_BOUNDS, 50)), ["soon"]);
    kept.remove("soon");
    assert!(kept.due(second(10), &NO_BOUNDS, 50).is_empty());
}

#[test]
fn the_oldest_go_first_when_there_are_too_many() {
    let kept = kept([("b", 2), ("a", 1), ("c", 3)].map(|(name, created)| Finished::new(name, created)));
    let bounds = Bounds {
        records: 1,
        ..NO_BOUNDS
    };
    assert_eq!(names(&kept.due(second(10), &bounds, 50)), ["a", "b"]);
    assert_eq!(names(&kept.due(second(10), &bounds, 1)), ["a"]);
}

#[test]
fn the_oldest_go_first_when_they_are_too_large() {
    let sizes = [("a", 1, 100), ("b", 2, 1000), ("c", 3, 500)];
    let kept = kept(sizes.map(|(name, created, rest)| Finished::new(name, created).stored(0, rest)));
    for (bytes, go) in [
        (1600, vec![]),
        (1599, vec!["a"]),
        (1500, vec!["a"]),
        (1499, vec!["a", "b"]),
    ] {
        let bounds = Bounds {
            record_bytes: bytes,
            ..NO_BOUNDS
        };
        assert_eq!(names(&kept.due(second(10), &bounds, 50)), go, "bound {bytes}");
    }
}

#[test]
fn a_spoiled_annotation_deletes_nothing() {
    let kept = kept([Finished::new("a", 1).expires("yesterday")]);
    assert!(kept.due(second(10), &NO_BOUNDS, 50).is_empty());
}

#[test]
fn the_oldest_outputs_are_cut_first_and_no_more_than_need_be() {
    let mut kept = kept([
        Finished::new("c", 3).stored(500_000, 10),
        Finished::new("short", 0).stored(1024, 10),
        Finished::new("a", 1).stored(500_000, 10),
        Finished::new("b", 2).stored(500_000, 10),
    ]);
    let bounds = Bounds {
        output_bytes: 600_000,
        ..NO_BOUNDS
    };
    let mut cut = Vec::new();
    while let Some(record) = kept.next_to_cut(&bounds) {
        cut.push(record.name.to_string());
        let stored = StoredBytes {
            stdout: 1024,
            rest: 10,
            ..StoredBytes::default()
        };
        kept.was_cut(&record.name, Some(stored));
    }
    assert_eq!(cut, ["a", "b"]);
    assert_eq!(kept.output_bytes(), 500_000 - 1024);
    assert_eq!(kept.record_bytes(), 4 * (1024 + 10));
    assert_eq!(kept.records(), 4);
}

#[test]
fn a_record_without_a_summary_is_looked_at_and_one_that_cannot_be_cut_is_left_alone() {
    let spoiled = Finished::new("a", 1).annotation(ANNOTATION_SUMMARY, "{}");
    let mut kept = kept([spoiled, Finished::new("b", 2).stored(5000, 10)]);
    let bounds = Bounds {
        output_bytes: 5000,
        ..NO_BOUNDS
    };
    assert_eq!(
        kept.next_to_cut(&bounds)
            .map(|record| record.name.to_string())
            .as_deref(),
        Some("a")
    );
    kept.was_cut("a", None);
    assert_eq!(kept.next_to_cut(&bounds), None);
}

proptest! {
    /// However records come, change, are cut and go: the sums are those of what is there.
    #[test]
    fn the_sums_are_those_of_what_is_there(
        steps in proptest::collection::vec((0_u8..4, 0_u8..8, 0_u64..5000, 0_u64..5000), 0..60),
    ) {
        let mut kept = Kept::default();
        let mut model: HashMap<String, StoredBytes> = HashMap::new();
        for (what, name, stdout, rest) in steps {
            let name = format!("e{name}");
            let stored = StoredBytes { stdout, rest, ..StoredBytes::default() };
            match what {
                0 | 1 => {
                    kept.insert(&Finished::new(&name, i64::from(what)).stored(stdout, rest).0);
                    model.insert(name, stored);
                }
                2 => {
                    kept.remove(&name);
                    model.remove(&name);
                }
                _ => {
                    kept.was_cut(&name, None);
                    model.entry(name).and_modify(|stored| *stored = Room::Heads.kept(*stored));
                }
            }
            let output: u64 = model.values().map(|stored| stored.stdout.saturating_sub(1024)).sum();
            let all: u64 = model.values().map(|stored| stored.total()).sum();
            prop_assert_eq!((kept.records(), kept.output_bytes()), (model.len(), output));
            prop_assert_eq!(kept.record_bytes(), all - output);
            let bounds = Bounds { output_bytes: 0, ..NO_BOUNDS };
            prop_assert_eq!(kept.next_to_cut(&bounds).is_some(), output > 0);
        }
    }
}
