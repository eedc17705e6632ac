//! What `/api/executions/{id}/events` tells, as it comes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Response;
use serde_json::Value;
use tokio::time::timeout;

use crate::Cluster;

/// Longest silence: comments come every 15 s.
const SILENCE: Duration = Duration::from_secs(25);

/// A server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its id, a number here.
    pub id: Option<u64>,
    /// Its data.
    pub data: Value,
}

/// An execution that is followed.
#[derive(Debug)]
pub struct Events {
    response: Response,
    bytes: Vec<u8>,
}

impl Events {
    /// Follows an execution, behind the event with this id, at this URL, or at any replica where that is empty.
    ///
    /// # Errors
    /// When the answer is no stream of events.
    pub async fn of(cluster: &Cluster, url: &str, id: &str, last: Option<u64>) -> Result<Self> {
        let last = last.map(|last| last.to_string());
        let headers: Vec<_> = last.iter().map(|last| ("last-event-id", last.as_str())).collect();
        let response = cluster
            .open(&format!("{url}/api/executions/{id}/events"), &headers)
            .await?;
        ensure!(response.status() == 200, "HTTP {}", response.status());
        let kind = response.headers().get("content-type").cloned();
        ensure!(
            kind.as_ref().is_some_and(|kind| kind == "text/event-stream"),
            "{kind:?}"
        );
        Ok(Self {
            response,
            bytes: Vec::new(),
        })
    }

    /// The next event; nothing where the stream has ended.
    ///
    /// # Errors
    /// When the connection breaks or falls silent, or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
                if let Some(event) = parse(std::str::from_utf8(&block)?)? {
                    return Ok(Some(event));
                }
                continue;
            }
            let chunk = timeout(SILENCE, self.response.chunk()).await;
            match chunk.context("the stream fell silent")?? {
                Some(bytes) => self.bytes.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// The next event of that name, and those before it.
    ///
    /// # Errors
    /// As [`Events::next`], or when the stream ends before it.
    pub async fn until(&mut self, name: &str) -> Result<(Event, Vec<Event>)> {
        let mut before = Vec::new();
        while let Some(event) = self.next().await? {
            if event.name == name {
                return Ok((event, before));
            }
            before.push(event);
        }
        anyhow::bail!("the stream ended without {name}, after {before:?}")
    }
}

/// The event of a block; nothing where that is a comment.
fn parse(block: &str) -> Result<Option<Event>> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    let Some(name) = field("event: ") else {
        return Ok(None);
    };
    Ok(Some(Event {
        name: name.to_owned(),
        id: field("id: ").map(str::parse).transpose()?,
        data: serde_json::from_str(field("data: ").context("an event without data")?)?,
    }))
}
