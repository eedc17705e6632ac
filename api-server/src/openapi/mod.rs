//! The API's description, an OpenAPI 3.1 document, and the table of routes that it and the router are made of.
//!
//! ```text
//!   routes ─┬─▶ App::router           what is served
//!           └─▶ document              what is told: paths, statuses, headers, error codes
//!                 ├─ schemas          from the types of the answers (schemars)
//!                 ├─ program          from the bounds that requests are checked against
//!                 └─ codes            from the table of error codes
//! ```

mod answers;
mod operation;
mod parameters;
mod program;
pub mod routes;
mod schemas;

use serde_json::{Map, Value, json};

use self::routes::routes;
use self::schemas::Schemas;

/// Whether a request has to show a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// It has to show a bearer token.
    Required,
    /// It may; otherwise its address, or its proxy, says who asks.
    Optional,
    /// None is accepted.
    Unwanted,
}

impl Credential {
    /// As OpenAPI has it: a list of which one item has to hold, or nothing.
    fn requirement(self) -> Value {
        match self {
            Self::Required => json!([{"bearer": []}]),
            Self::Optional => json!([{"bearer": []}, {}]),
            Self::Unwanted => json!([]),
        }
    }

    fn schemes(self) -> Value {
        match self {
            Self::Required | Self::Optional => json!({
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, a token of the cluster, or one of an OpenID Connect issuer: \
                        whichever of them the installation accepts.",
                },
            }),
            Self::Unwanted => json!({}),
        }
    }
}

const DESCRIPTION: &str = "Runs untrusted Python: one request, one isolated sandbox, one result.\n\n\
    Every answer that is not a result is `{\"error\": \"a sentence\", \"code\": \"a_word\"}`.";

/// The document, for a server where callers identify themselves so.
#[must_use]
pub fn document(credential: Credential) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for route in routes() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        let described = (route.operation)(&mut schemas).into_value(route.needs_identity, &mut schemas);
        path[route.method.as_str().to_ascii_lowercase()] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "codeexec",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": credential.requirement(),
        "tags": [
            {"name": "execute", "description": "Run a program and wait for its result."},
            {"name": "executions", "description": "Run programs without waiting; look at them, list and cancel them."},
            {"name": "usage", "description": "What was run, and what it cost."},
            {"name": "service", "description": "Of the service itself; open to everybody."},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": credential.schemes(),
            "schemas": schemas.into_definitions(),
        },
    })
}

/// The committed document, `docs/openapi.json`: that of a server as the chart installs it.
#[must_use]
pub fn file() -> String {
    format!("{:#}\n", document(Credential::Required))
}
