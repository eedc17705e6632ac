//! `GET /api/usage`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use codeexec_crds::bounds;
use jiff::Timestamp;

use super::error::ApiError;
use crate::app::App;
use crate::auth::Identity;
use crate::usage::{Period, Report};

/// A query whose fields are known, each given once at most.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    from: Option<String>,
    to: Option<String>,
    user: Option<String>,
}

impl Wanted {
    fn read(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut wanted = Self::default();
        for (name, value) in pairs {
            let field = match name.as_str() {
                "from" => &mut wanted.from,
                "to" => &mut wanted.to,
                "user" => &mut wanted.user,
                _ => {
                    let name: String = name.chars().take(64).collect();
                    return Err(ApiError::invalid(format!(
                        "the query has an unknown field: {name}"
                    )));
                }
            };
            if field.replace(value).is_some() {
                return Err(ApiError::invalid(format!("{name} must be given once only")));
            }
        }
        let is_name = |user: &String| (1..=bounds::NAME_CHARS).contains(&user.chars().count());
        if wanted.user.as_ref().is_some_and(|user| !is_name(user)) {
            return Err(ApiError::invalid("user must have 1 to 253 characters"));
        }
        Ok(wanted)
    }
}

/// What the caller has used, or, for an administrator, what all users or one of them have.
///
/// # Errors
/// 400 for a wrong query, 403 for somebody else's usage, 503 while the records can't be read.
pub async fn usage(
    State(app): State<App>,
    Extension(caller): Extension<Identity>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Report>, ApiError> {
    let Query(pairs) = query.map_err(|_| ApiError::invalid("the query can't be read"))?;
    let wanted = Wanted::read(pairs)?;
    let period = Period::parse(wanted.from.as_deref(), wanted.to.as_deref(), Timestamp::now())
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let user = whose(&caller, wanted.user)?;
    let report = app.usage.report(&period, user.as_deref()).await;
    report.map(Json).map_err(|error| {
        tracing::warn!(%error, "no report on usage");
        ApiError::unavailable("unavailable", "the usage can't be read at the moment", 5)
    })
}

/// Whose usage is told; nothing for everybody's.
fn whose(caller: &Identity, wanted: Option<String>) -> Result<Option<String>, ApiError> {
    match wanted {
        wanted if caller.is_admin => Ok(wanted),
        Some(user) if user != caller.user => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "only administrators may read the usage of others",
        )),
        _ => Ok(Some(caller.user.clone())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;
    use crate::auth::Via;

    fn caller(is_admin: bool) -> Identity {
        Identity {
            is_admin,
            ..Identity::new("alice", Via::ApiKeys)
        }
    }

    #[test]
    fn users_read_their_own_usage_and_administrators_everybody_s() {
        let bob = || Some("bob".to_owned());
        let alice = Some("alice".to_owned());
        assert_eq!(whose(&caller(false), None), Ok(alice.clone()));
        assert_eq!(whose(&caller(false), alice.clone()), Ok(alice));
        assert_eq!(whose(&caller(false), bob()).unwrap_err().status, 403);
        assert_eq!(whose(&caller(true), None), Ok(None));
        assert_eq!(whose(&caller(true), bob()), Ok(bob()));
    }

    #[test]
    fn a_query_with_an_unknown_repeated_or_impossible_field_is_refused_by_name() {
        let read = |pairs: &[(&str, &str)]| {
            Wanted::read(
                pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            )
        };
        assert_eq!(read(&[("user", "bob")]).unwrap().user.as_deref(), Some("bob"));
        for impossible in ["", &"x".repeat(254)] {
            assert!(
                read(&[("user", impossible)])
                    .unwrap_err()
                    .message
                    .starts_with("user must")
            );
        }
        assert!(read(&[("form", "x")]).unwrap_err().message.contains("form"));
        assert!(
            read(&[("to", "x"), ("to", "y")])
                .unwrap_err()
                .message
                .contains("to must be given once")
        );
    }
}
