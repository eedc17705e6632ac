//! Calendar months in UTC, by which free tiers are counted.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// The first day of the month of a moment.
pub(super) fn month(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date().first_of_month()
}

/// When the month of a moment began.
pub(super) fn begin_of_month(at: Timestamp) -> Timestamp {
    // UTC has neither gaps nor folds, and the begin of a month is no further from now than the moment itself.
    month(at)
        .to_zoned(TimeZone::UTC)
        .map_or(at, |begin| begin.timestamp())
}
