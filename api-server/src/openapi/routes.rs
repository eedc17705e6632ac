//! Every path below `/api` that programs use: who serves it, and what is told of it.

use std::collections::BTreeMap;
use std::fmt;

use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post};
use serde_json::{Value, json};

use super::answers::{Header, answer};
use super::operation::Operation;
use super::parameters;
use super::schemas::Schemas;
use crate::app::App;
use crate::http::answer::Executed;
use crate::http::error::ErrorBody;
use crate::http::health::Health;
use crate::http::{docs, events, execute, executions, health, usage};
use crate::usage::Report;

/// One method of one path.
pub struct Route {
    /// The path, as axum has it, which is how OpenAPI has it too.
    pub path: &'static str,
    /// The method.
    pub method: Method,
    /// Whether it is only for whoever is somebody. The others tell nothing of anybody and cost nothing.
    pub needs_identity: bool,
    /// Who serves it.
    pub handler: MethodRouter<App>,
    pub(super) operation: fn(&mut Schemas) -> Operation,
}

impl fmt::Debug for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.path)
    }
}

/// All of them.
#[must_use]
pub fn routes() -> Vec<Route> {
    let route = |needs_identity, method, path, handler, operation| Route {
        path,
        method,
        needs_identity,
        handler,
        operation,
    };
    vec![
        route(true, Method::POST, "/api/execute", post(execute::execute), run),
        route(false, Method::GET, "/api/execute", get(health::service), service),
        route(
            true,
            Method::POST,
            "/api/executions",
            post(executions::begin),
            begin,
        ),
        route(true, Method::GET, "/api/executions", get(executions::list), list),
        route(
            true,
            Method::GET,
            "/api/executions/{id}",
            get(executions::get),
            look,
        ),
        route(
            true,
            Method::DELETE,
            "/api/executions/{id}",
            delete(executions::cancel),
            cancel,
        ),
        route(
            true,
            Method::GET,
            "/api/executions/{id}/events",
            get(events::events),
            follow,
        ),
        route(true, Method::GET, "/api/usage", get(usage::usage), usage_report),
        route(
            false,
            Method::GET,
            docs::DOCUMENT_PATH,
            get(docs::document),
            description,
        ),
    ]
}

/// What a request that begins an execution may be refused with.
const BEGINNING: [&str; 14] = [
    "invalid_request",
    "policy_violation",
    "rejected",
    "request_timeout",
    "body_too_large",
    "unsupported_media_type",
    "idempotency_key_reused",
    "rate_limited",
    "too_many_concurrent",
    "backend_unavailable",
    "busy",
    "quota_exceeded",
    "deleted",
    "no_result",
];

/// Why an execution that was begun did not run.
const NOT_RUN: [&str; 8] = [
    "evicted",
    "image_pull",
    "internal_error",
    "isolation_unavailable",
    "node_lost",
    "out_of_memory",
    "pod_deleted",
    "unschedulable",
];

fn run(schemas: &mut Schemas) -> Operation {
    let told = [Header::ServerTiming, Header::RateLimit, Header::Replayed];
    let body = schemas.of::<Executed>();
    let mut ran = answer(
        "A program ran, and this came of it, whichever way it ended.",
        &told,
        Some(body),
    );
    ran["links"] = links();
    Operation {
        description: "A client that hangs up cancels the execution, unless it gave an Idempotency-Key.",
        parameters: vec![parameters::idempotency_key()],
        takes_program: true,
        answers: BTreeMap::from([(200, ran)]),
        errors: [&BEGINNING[..], &NOT_RUN].concat(),
        error_headers: &[Header::RateLimit, Header::Replayed],
        ..Operation::new("execute", "execute", "Run a program and wait for its result")
    }
}

fn service(schemas: &mut Schemas) -> Operation {
    let body = schemas.of::<Health>();
    Operation {
        answers: BTreeMap::from([(200, answer("The service is up.", &[], Some(body)))]),
        ..Operation::new("service", "getService", "Whether the service is up")
    }
}

fn begin(schemas: &mut Schemas) -> Operation {
    let told = [Header::Location, Header::RateLimit, Header::Replayed];
    let body = schemas.of::<executions::Unfinished>();
    let mut taken = answer("The program was taken on, or had been before.", &told, Some(body));
    taken["links"] = links();
    Operation {
        description: "It runs to its end, whether or not anybody waits.",
        parameters: vec![parameters::idempotency_key()],
        takes_program: true,
        answers: BTreeMap::from([(202, taken)]),
        errors: [&BEGINNING[..], &["not_found"]].concat(),
        error_headers: &[Header::Location, Header::RateLimit, Header::Replayed],
        ..Operation::new(
            "executions",
            "beginExecution",
            "Begin an execution without waiting for it",
        )
    }
}

/// What can be done with the execution that an answer names.
fn links() -> Value {
    let link =
        |operation: &str| json!({"operationId": operation, "parameters": {"id": "$response.body#/id"}});
    json!({"execution": link("getExecution"), "cancel": link("cancelExecution")})
}

fn list(schemas: &mut Schemas) -> Operation {
    let body = schemas.of::<executions::List>();
    Operation {
        description: "The caller's own; an administrator's list has everybody's. In the order of the ids, not of time.",
        parameters: parameters::list(),
        answers: BTreeMap::from([(200, answer("A page of executions.", &[], Some(body)))]),
        errors: vec!["invalid_request", "backend_unavailable"],
        ..Operation::new("executions", "listExecutions", "List executions")
    }
}

fn look(schemas: &mut Schemas) -> Operation {
    let body = json!({"anyOf": [schemas.of::<Executed>(), schemas.of::<executions::Unfinished>()]});
    let found = answer(
        "What came of it, once it has ended; before, how it stands.",
        &[],
        Some(body),
    );
    Operation {
        parameters: vec![parameters::id()],
        answers: BTreeMap::from([(200, found)]),
        errors: vec!["not_found", "backend_unavailable", "no_result"],
        ..Operation::new("executions", "getExecution", "Look at an execution")
    }
}

fn cancel(schemas: &mut Schemas) -> Operation {
    let body = schemas.of::<executions::Unfinished>();
    let told = answer(
        "It had not ended, and is cancelled. How it stood.",
        &[],
        Some(body),
    );
    Operation {
        description: "The record stays.",
        parameters: vec![parameters::id()],
        answers: BTreeMap::from([
            (202, told),
            (204, answer("It had ended; nothing changes.", &[], None)),
        ]),
        errors: vec!["not_found", "backend_unavailable"],
        ..Operation::new("executions", "cancelExecution", "Cancel an execution")
    }
}

fn follow(schemas: &mut Schemas) -> Operation {
    let events = [
        (
            "queued",
            "It waits; again whenever its place changes.",
            schemas.of::<events::Queued>(),
        ),
        ("started", "Its program runs.", schemas.of::<events::Started>()),
        (
            "output",
            "What it printed. The event's id is its number, from 0.",
            schemas.of::<events::Printed>(),
        ),
        (
            "result",
            "What came of it, its whole output included. The last event.",
            schemas.of::<Executed>(),
        ),
        (
            "failed",
            "Nothing can come of it any more. The last event.",
            schemas.of::<ErrorBody<'static>>(),
        ),
    ];
    // Of each event, for tools that know what a stream of them is.
    let each = events.into_iter().map(|(name, what, data)| {
        json!({
            "type": "object",
            "description": what,
            "required": ["event", "data"],
            "properties": {
                "event": {"const": name},
                "id": {"type": "string", "pattern": "^[0-9]+$"},
                "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
            },
        })
    });
    let schema = json!({"oneOf": each.collect::<Vec<_>>()});
    let stream = json!({
        "description": "Server-sent events, whose data is JSON.",
        "content": {"text/event-stream": {"schema": schema}},
    });
    Operation {
        description: "Follows an execution to its end. Who leaves cancels nothing.",
        parameters: vec![parameters::id(), parameters::last_event_id()],
        answers: BTreeMap::from([(200, stream)]),
        errors: vec![
            "invalid_request",
            "not_found",
            "backend_unavailable",
            "too_many_streams",
        ],
        ..Operation::new(
            "executions",
            "followExecution",
            "Follow an execution as it goes on",
        )
    }
}

fn usage_report(schemas: &mut Schemas) -> Operation {
    let body = schemas.of::<Report>();
    Operation {
        description: "Users see their own; administrators see all, or one of them. It knows what finished records \
            know, and no longer.",
        parameters: parameters::usage(),
        answers: BTreeMap::from([(200, answer("The sums.", &[], Some(body)))]),
        errors: vec!["invalid_request", "unavailable"],
        ..Operation::new(
            "usage",
            "getUsage",
            "What was run over a period, and what it cost",
        )
    }
}

fn description(_: &mut Schemas) -> Operation {
    let body = json!({"type": "object", "required": ["openapi", "info", "paths"]});
    Operation {
        answers: BTreeMap::from([(200, answer("An OpenAPI 3.1 document.", &[], Some(body)))]),
        errors: vec!["not_found"],
        ..Operation::new(
            "service",
            "getDescription",
            "This document; 404 where it is switched off",
        )
    }
}
