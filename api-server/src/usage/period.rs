//! The period of a report, as a query gives it.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::month::begin_of_month;

/// From a moment on, and up to another one, which is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first moment.
    pub from: Timestamp,
    /// The moment after its last.
    pub to: Timestamp,
}

/// What is wrong with a period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// Neither a date nor a time.
    #[error("{0} must be a date such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z")]
    Unreadable(&'static str),
    /// It ends before it begins.
    #[error("from must be before to")]
    Empty,
}

impl Period {
    /// Reads both ends. A date is its first moment in UTC; without `from` it begins with the current month, without `to`
    /// it lasts until now.
    ///
    /// # Errors
    /// [`PeriodError`].
    pub fn parse(from: Option<&str>, to: Option<&str>, now: Timestamp) -> Result<Self, PeriodError> {
        let read = |name, text: Option<&str>| {
            text.map(|text| moment(text).ok_or(PeriodError::Unreadable(name)))
                .transpose()
        };
        let (from, to) = (read("from", from)?, read("to", to)?);
        let to = to.unwrap_or(now);
        let from = from.unwrap_or_else(|| begin_of_month(now));
        if from >= to {
            return Err(PeriodError::Empty);
        }
        Ok(Self { from, to })
    }

    /// Whether a moment is part of it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    // A date first: it would be no whole timestamp.
    if let Ok(date) = text.parse::<Date>()
        && text.len() == "2026-01-31".len()
    {
        return Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp());
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn dates_and_times_are_read_and_what_is_missing_is_this_month_until_now() {
        let now = at("2026-03-15T12:00:00Z");
        for (from, to, begin, end) in [
            (None, None, "2026-03-01T00:00:00Z", "2026-03-15T12:00:00Z"),
            (
                Some("2026-02-01"),
                Some("2026-03-01"),
                "2026-02-01T00:00:00Z",
                "2026-03-01T00:00:00Z",
            ),
            (
                Some("2026-03-15T13:00:00+02:00"),
                None,
                "2026-03-15T11:00:00Z",
                "2026-03-15T12:00:00Z",
            ),
        ] {
            let period = Period::parse(from, to, now).expect("a period");
            assert_eq!((period.from, period.to), (at(begin), at(end)));
            assert!(period.contains(period.from) && !period.contains(period.to));
        }
    }

    #[test]
    fn a_wrong_period_names_the_field() {
        let now = at("2026-03-15T12:00:00Z");
        for wrong in ["yesterday", "", "2026-13-01", "2026-01-31T12:00", "1e9"] {
            assert_eq!(
                Period::parse(Some(wrong), None, now),
                Err(PeriodError::Unreadable("from")),
                "{wrong}"
            );
            assert_eq!(
                Period::parse(None, Some(wrong), now),
                Err(PeriodError::Unreadable("to")),
                "{wrong}"
            );
        }
        assert_eq!(
            Period::parse(Some("2026-03-16"), None, now),
            Err(PeriodError::Empty)
        );
    }
}
