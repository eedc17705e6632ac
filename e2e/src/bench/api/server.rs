//! The API server as a process of its own, with a backend that answers at once, or late.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use codeexec_api::app::App;
use codeexec_api::auth::Authenticator;
use codeexec_api::auth::api_keys::{KeyHash, new_key};
use codeexec_api::backend::{
    Backend, BackendError, End, Execution, Job, Keep, Page, Progress, Query, Started, new_id,
};
use codeexec_api::http::receive::Room;
use codeexec_api::http::streams::Streams;
use codeexec_api::limits::Limits;
use codeexec_api::metrics::Metrics;
use codeexec_api::server;
use codeexec_api::settings::Settings;
use codeexec_api::usage::{Source, Usage};
use codeexec_crds::{CodeExecutionStatus, Phase, Reason};
use codeexec_execution::user_hash;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::client::Connection;
use super::{RECORDS, USERS, WAITING};

/// The benchmark, told this and a profile, is such a server on the socket that is its standard input.
pub const COMMAND: &str = "api-server";

/// What is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Everything.
    Full,
    /// Everything, but no program ends.
    Late,
    /// Nothing that can be off.
    Bare,
}

impl Profile {
    const ALL: [Self; 3] = [Self::Full, Self::Late, Self::Bare];

    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Late => "late",
            Self::Bare => "bare",
        }
    }

    /// Flags of the server. The backend that they name is not started; it stands for the ways to identify callers
    /// that need no cluster.
    fn flags(self, keys: &str) -> Vec<&str> {
        let mut flags = vec!["--backend", "local", "--log-format", "json"];
        match self {
            Self::Full | Self::Late => {
                flags.extend(["--auth", "api-keys", "--api-keys-file", keys]);
                flags.extend(["--rate-limit", "10000"]);
            }
            Self::Bare => flags.extend(["--policy", "off", "--rate-limit", "0"]),
        }
        flags
    }
}

/// A server that runs, and ends with its owner.
pub struct Process {
    process: Child,
    address: SocketAddr,
    keys: Vec<String>,
    _folder: TempDir,
}

impl Process {
    /// Starts one. Its log goes to a file, which is what a container's does.
    pub fn start(profile: Profile) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let keys: Vec<String> = match profile {
            Profile::Full | Profile::Late => (0..USERS).map(|_| new_key()).collect(),
            Profile::Bare => Vec::new(),
        };
        let entries: BTreeMap<String, _> = keys
            .iter()
            .enumerate()
            .map(|(number, key)| (user(number), json!({"hashes": [KeyHash::of(key).to_string()]})))
            .collect();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, serde_json::to_vec(&entries)?)?;
        // It listens before the server does: whoever connects meanwhile waits.
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let process = Command::new(env::current_exe()?)
            .args([COMMAND, profile.name()])
            .args(profile.flags(path.to_str().context("a path of text")?))
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::from(File::create(folder.path().join("log"))?))
            .spawn()
            .context("failed to start the API server")?;
        Ok(Self {
            process,
            address,
            keys,
            _folder: folder,
        })
    }

    /// A connection to it.
    pub async fn connect(&self) -> Result<Connection> {
        Connection::to(self.address).await
    }

    /// The key of some user, each number the next one's; nothing where nobody needs one.
    pub fn key(&self, number: usize) -> Option<&str> {
        let at = number.checked_rem(self.keys.len())?;
        self.keys.get(at).map(String::as_str)
    }

    /// Its number.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.process.id())?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

/// The server's process, from the arguments behind [`COMMAND`].
///
/// # Errors
/// When it can't start.
pub async fn serve(arguments: &[String]) -> Result<()> {
    let [profile, flags @ ..] = arguments else {
        bail!("{COMMAND} needs a profile");
    };
    let profile = Profile::ALL
        .into_iter()
        .find(|known| known.name() == profile)
        .with_context(|| format!("no profile is named {profile}"))?;
    let program = COMMAND.to_owned();
    let settings = Settings::try_parse_from([&[program], flags].concat())?;
    // The audit trail is part of it, and has no switch of its own.
    if profile != Profile::Bare {
        server::start_log(&settings);
    }
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let limits = match profile {
        Profile::Full | Profile::Late => counting(&settings),
        Profile::Bare => Limits::alone(&settings),
    };
    let plan = settings.auth.plan(settings.backend)?;
    let app = App {
        backend: Arc::new(Answering {
            limits: limits.clone(),
            profile,
            waiting: AtomicUsize::new(0),
        }),
        limits,
        auth: Arc::new(Authenticator::start(plan, None).await?),
        usage: Arc::new(Usage::new(Source::Ledger(Arc::default()), 0.0)),
        metrics: Arc::new(Metrics::new(false)),
        policy: settings.policy,
        http: settings.http.clone(),
        docs: None,
        playground: false,
        room: Room::default(),
        streams: Streams::at_most(settings.http.max_streams),
        stopping: Default::default(),
    };
    server::serve(listener, None, app, &settings).await?;
    Ok(())
}

/// As a replica counts that has seen everybody's executions of the last minute.
fn counting(settings: &Settings) -> Arc<Limits> {
    let limits = Limits::shared(settings);
    for number in 0..RECORDS {
        let user = user_hash(&user(number % USERS));
        limits.seen(&user, &new_id(), Duration::ZERO, true);
    }
    limits.complete();
    limits
}

/// Runs nothing. What a watch would show of each execution is told to the limits, as a watch does.
struct Answering {
    limits: Arc<Limits>,
    profile: Profile,
    waiting: AtomicUsize,
}

impl Answering {
    fn begin(&self, job: &Job) -> Started {
        let user = user_hash(&job.spec.user);
        let has_ended = self.profile != Profile::Late;
        self.limits.seen(&user, &job.id, Duration::ZERO, has_ended);
        let end = if has_ended {
            async { Ok(succeeded()) }.boxed()
        } else {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            futures::future::pending().boxed()
        };
        Started { is_new: true, end }
    }
}

fn succeeded() -> CodeExecutionStatus {
    CodeExecutionStatus {
        phase: Some(Phase::Succeeded),
        reason: Some(Reason::Completed),
        exit_code: Some(0),
        output: Some("1\n".to_owned()),
        ..CodeExecutionStatus::default()
    }
}

impl Backend for Answering {
    fn start(&self, job: Job, _: Keep) -> BoxFuture<'_, Result<Started, BackendError>> {
        let started = self.begin(&job);
        async { Ok(started) }.boxed()
    }

    fn rejoin(&self, _: Job) -> BoxFuture<'_, Result<Option<Started>, BackendError>> {
        async { Ok(None) }.boxed()
    }

    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Execution>, BackendError>> {
        async { Ok(None) }.boxed()
    }

    fn follow(&self, _: &str, _: u64, _: mpsc::Sender<Progress>) -> End {
        async { Err(BackendError::Deleted) }.boxed()
    }

    fn list(&self, _: Query) -> BoxFuture<'_, Result<Page, BackendError>> {
        async { Ok(Page::default()) }.boxed()
    }

    fn cancel<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        async { Ok(()) }.boxed()
    }

    /// A server whose programs don't end is ready once all of them are there.
    fn ready(&self) -> Result<(), String> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if self.profile == Profile::Late && waiting < WAITING {
            return Err(format!("{waiting} wait"));
        }
        Ok(())
    }
}
