//! The parameters of a list.

use axum::extract::Query as Pairs;
use axum::http::Uri;
use codeexec_crds::bounds;
use jiff::Timestamp;

use crate::backend::{Query, Stage};

/// Executions in a page, unless the client says otherwise.
pub const LIMIT: usize = 100;

/// Executions in a page at most.
pub const MAX_LIMIT: usize = 500;

/// Longest continue token; Kubernetes' have a few hundred characters.
pub const MAX_TOKEN: usize = 4096;

/// What is wrong with a parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It is not one that a list has.
    #[error("the query must have no parameters but user, status, since, limit and continue, each once")]
    Unknown,
    /// Its value is none of those that it may have.
    #[error("{0} {1}")]
    Value(&'static str, &'static str),
}

/// Reads the query of a request.
///
/// # Errors
/// The first parameter that is wrong.
pub fn parse(uri: &Uri) -> Result<Query, QueryError> {
    let pairs = Pairs::<Vec<(String, String)>>::try_from_uri(uri);
    let Pairs(pairs) = pairs.map_err(|_| QueryError::Unknown)?;
    let mut query = Query {
        user: None,
        stage: None,
        since: None,
        after: None,
        limit: LIMIT,
    };
    let mut names = Vec::new();
    for (name, value) in pairs {
        match name.as_str() {
            "user" if (1..=bounds::NAME_CHARS).contains(&value.chars().count()) => query.user = Some(value),
            "user" => return Err(QueryError::Value("user", "must have 1 to 253 characters")),
            "status" => query.stage = Some(stage(&value)?),
            "since" => query.since = Some(since(&value)?),
            "limit" => query.limit = limit(&value)?,
            "continue" if value.len() <= MAX_TOKEN && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                query.after = Some(value).filter(|token| !token.is_empty());
            }
            "continue" => return Err(QueryError::Value("continue", "is not from a list of before")),
            _ => return Err(QueryError::Unknown),
        }
        if names.contains(&name) {
            return Err(QueryError::Unknown);
        }
        names.push(name);
    }
    Ok(query)
}

fn stage(value: &str) -> Result<Stage, QueryError> {
    let rule = "must be queued, running, success, timeout or error";
    Stage::ALL
        .into_iter()
        .find(|stage| stage.as_str() == value)
        .ok_or(QueryError::Value("status", rule))
}

fn since(value: &str) -> Result<Timestamp, QueryError> {
    let rule = "must be a time such as 2026-01-31T12:00:00Z";
    let time: Timestamp = value.parse().map_err(|_| QueryError::Value("since", rule))?;
    // Kubernetes records a creation to the second, and one within the same second may be later.
    Ok(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

fn limit(value: &str) -> Result<usize, QueryError> {
    let number = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    number.ok_or(QueryError::Value("limit", "must be a whole number from 1 to 500"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(raw: &str) -> Result<Query, QueryError> {
        parse(&format!("/api/executions?{raw}").parse().unwrap())
    }

    #[test]
    fn every_parameter_is_read() {
        let query =
            parsed("user=al%20ice&status=error&since=2026-01-31T12:00:00Z&limit=7&continue=abc").unwrap();
        assert_eq!(query.user.as_deref(), Some("al ice"));
        assert_eq!(query.stage, Some(Stage::Error));
        assert_eq!(query.since, Some("2026-01-31T12:00:00Z".parse().unwrap()));
        assert_eq!((query.limit, query.after.as_deref()), (7, Some("abc")));
        assert_eq!(parsed("").unwrap().limit, LIMIT);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (raw, name) in [
            ("user=", "user"),
            ("status=Failed", "status"),
            ("since=yesterday", "since"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=1.5", "limit"),
            ("continue=a%20b", "continue"),
            ("page=2", "the query"),
            ("limit=1&limit=2", "the query"),
        ] {
            let error = parsed(raw).unwrap_err().to_string();
            assert!(error.starts_with(name), "{raw}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_query_panics(raw in "[!-~]{0,200}") {
            if let Ok(uri) = format!("/api/executions?{raw}").parse() {
                let _ = parse(&uri);
            }
        }
    }
}
