//! The line of a request.

use std::net::IpAddr;

use serde::Serialize;

use crate::{Text, layer, line};

/// A request and how it was answered.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// The address that the connection came from.
    pub peer: IpAddr,
    /// The address behind listed proxies, where the peer is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// Who asked; absent where they were not let in, or need not be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Text>,
    /// How they were known: a value of the setting `--auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<&'static str>,
    /// The method.
    pub method: Text,
    /// The path, without the query.
    pub path: Text,
    /// Status of the answer; 499 where the client did not wait for it.
    pub status: u16,
    /// `code` of the answer's body, where it is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<&'static str>,
    /// Name of the execution that it was to begin, began or found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<Text>,
    /// SHA-256 of the program that it brought, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_sha256: Option<Text>,
    /// What the policy would not allow in it, separated by commas, where it was let through with warnings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_warnings: Option<Text>,
    /// Milliseconds from the request's head to the answer's.
    pub ms: u64,
}

impl Request {
    /// Writes the line.
    pub fn write(&self) {
        layer::emit(&line::line("request", self));
    }
}
