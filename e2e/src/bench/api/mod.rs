//! What the API server itself takes: it runs as a process of its own, before a backend that answers at once.
//!
//! ```text
//!   api.full      POST /api/execute of 10,000 characters, with all that stands between a request and its backend
//!   api.bare      the same where all of it is off that can be; api_overhead_ms is their difference
//!   api_requests  requests of a short program a second, with all of it on, client included
//!   waiting       memory of a server with 1,000 clients that wait at once
//! ```

mod client;
mod server;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::json;

use self::client::Connection;
pub use self::server::{COMMAND, serve};
use self::server::{Process, Profile};
use super::idle::resident_mb;
use super::{Report, Rounds};
use crate::wait_until;

/// Users, each with a key.
const USERS: usize = 1000;

/// Executions that the rate limit knows of the last minute.
const RECORDS: usize = 20_000;

/// Most that a program may have.
const LONGEST_CODE: usize = 10_000;

/// Clients that wait at once.
const WAITING: usize = 1000;

/// Connections that ask without pause: enough that none of two cores waits for another.
const CONNECTIONS: usize = 16;

/// How long they ask before they are counted, and while they are.
const WARM_UP: Duration = Duration::from_secs(1);
const COUNTED: Duration = Duration::from_secs(5);

/// Measures all of it.
///
/// # Errors
/// When an answer is not what it must be.
pub async fn measure_api(samples: usize, report: &mut Report) -> Result<()> {
    let (full, bare) = (Process::start(Profile::Full)?, Process::start(Profile::Bare)?);
    overhead(&full, &bare, samples, report).await?;
    drop((full, bare));
    requests(report).await?;
    report.api_waiting_mb = Some(waiting().await?);
    Ok(())
}

async fn overhead(full: &Process, bare: &Process, samples: usize, report: &mut Report) -> Result<()> {
    let body = json!({"code": longest_code(), "language": "python"}).to_string();
    let mut on = full.connect().await?;
    let mut off = bare.connect().await?;
    // The first ones find everything cold.
    for _ in 0..samples {
        on.execute(full.key(0), &body).await?;
        off.execute(None, &body).await?;
    }
    let mut rounds = Rounds::new(["api.full", "api.bare"]);
    for round in 0..samples * 10 {
        let took_on = timed(&mut on, full.key(round), &body).await?;
        let took_off = timed(&mut off, None, &body).await?;
        rounds.push([took_on, took_off]);
    }
    report.add(&rounds);
    report.compare_api();
    Ok(())
}

async fn timed(connection: &mut Connection, key: Option<&str>, body: &str) -> Result<Duration> {
    let began = Instant::now();
    connection.execute(key, body).await?;
    Ok(began.elapsed())
}

async fn requests(report: &mut Report) -> Result<()> {
    let server = Process::start(Profile::Full)?;
    let body = json!({"code": "print(1)", "language": "python"}).to_string();
    let begin = Instant::now() + WARM_UP;
    let end = begin + COUNTED;
    let clients = (0..CONNECTIONS).map(|number| {
        let (server, body) = (&server, &body);
        async move {
            let mut connection = server.connect().await?;
            let mut counted = 0;
            for turn in 0.. {
                connection
                    .execute(server.key(turn * CONNECTIONS + number), body)
                    .await?;
                let now = Instant::now();
                if now >= end {
                    break;
                }
                if now >= begin {
                    counted += 1;
                }
            }
            anyhow::Ok(counted)
        }
    });
    let counted: usize = try_join_all(clients).await?.into_iter().sum();
    report.add_rate("api_requests", counted, COUNTED);
    Ok(())
}

/// How much memory a server takes, in MB, while so many wait.
async fn waiting() -> Result<f64> {
    let server = Process::start(Profile::Late)?;
    let body = json!({"code": longest_code(), "language": "python"}).to_string();
    let mut connections = Vec::new();
    for number in 0..WAITING {
        let mut connection = server.connect().await?;
        connection.ask(server.key(number), &body)?;
        connections.push(connection);
    }
    let mut probe = server.connect().await?;
    wait_until("all clients wait", Duration::from_secs(60), async || {
        Ok(probe.is_ready().await?.then_some(()))
    })
    .await?;
    let mb = resident_mb(server.pid()?)?;
    for connection in &mut connections {
        ensure!(!connection.is_answered(), "a client got an answer");
    }
    Ok((mb * 10.0).round() / 10.0)
}

/// As long as a program may be, and with something for a policy to read in each line.
fn longest_code() -> String {
    let lines =
        (0..).map(|number| format!("value_{number} = [len(str(item)) for item in range({number})]\n"));
    let mut code: String = lines
        .scan(0, |length, line| {
            *length += line.len();
            (*length <= LONGEST_CODE - 10).then_some(line)
        })
        .collect();
    code.push_str("print(1)\n");
    code.push_str(&"#".repeat(LONGEST_CODE - code.len()));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_program_is_as_long_as_one_may_be() {
        assert_eq!(longest_code().chars().count(), LONGEST_CODE);
    }
}
