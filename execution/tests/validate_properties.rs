//! What holds of every spec. `PROPTEST_CASES` makes it look longer.
#![allow(clippy::expect_used)] // in a test a panic is a failure told

mod specs;

use codeexec_crds::{CodeExecution, CodeExecutionSpec};
use codeexec_execution::{budget, runner_request, validate};
use codeexec_runner::frames::{Decoder, MAX_FRAME_BYTES, ToRunner, encode};
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_keeps_every_bound_is_accepted_and_still_is_once_it_was_stored(spec in specs::valid()) {
        prop_assert_eq!(validate(&spec), Ok(()));
        let stored = serde_json::to_string(&CodeExecution::new("x", spec.clone())).expect("plain data");
        let read: CodeExecution = serde_json::from_str(&stored).expect("what was written");
        prop_assert_eq!(read.spec, spec);
    }

    #[test]
    fn what_breaks_one_bound_is_refused_by_its_field((field, spec) in specs::broken()) {
        let violation = validate(&spec).expect_err("it breaks a bound");
        let is_named = violation.field == field || field.ends_with('.') && violation.field.starts_with(&field);
        prop_assert!(is_named, "{} instead of {}", violation, field);
        prop_assert!(violation.rule.starts_with("must"), "{}", violation);
    }

    #[test]
    fn users_and_times_to_live_have_bounds_too(
        spec in specs::valid(),
        user in prop_oneof![Just(String::new()), (254_usize..400).prop_map(|length| "é".repeat(length))],
        ttl in ..60_i64,
    ) {
        let refused = |spec: CodeExecutionSpec| validate(&spec).expect_err("it breaks a bound").field;
        prop_assert_eq!(refused(CodeExecutionSpec { user, ..spec.clone() }), "user");
        let ttl_seconds_after_finished = ttl;
        prop_assert_eq!(
            refused(CodeExecutionSpec { ttl_seconds_after_finished, ..spec }),
            "ttlSecondsAfterFinished"
        );
    }

    #[test]
    fn whatever_is_accepted_fits_into_a_frame_and_an_object(spec in specs::valid()) {
        let execution = CodeExecution::new("x", spec);
        let limits = budget::output_limits(&execution);
        let stored = budget::encoded_json_len(&execution.spec) + limits.encoded_bytes;
        prop_assert!(stored + budget::ERROR_ENCODED_BYTES <= 1_500_000, "{}", stored);

        let request = ToRunner::Request(Box::new(runner_request("uid", &execution.spec, limits)));
        let length = serde_json::to_string(&request).expect("plain data").len();
        prop_assert!(length <= MAX_FRAME_BYTES, "{}", length);
        prop_assert_eq!(Decoder::<ToRunner>::default().push(&encode(&request)), [request]);
    }
}
