//! A backend of which a test wants to know one thing.

use std::sync::Arc;

use codeexec_api::backend::{
    Backend, BackendError, End, Execution, Job, Keep, Page, Progress, Query, Started,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

/// What a test wants to know of a backend, or have it do.
pub trait Runs: Send + Sync + 'static {
    /// Takes a program on.
    fn run(&self, job: Job) -> End;

    /// The record of that name.
    fn record(&self, _: &str) -> Option<Execution> {
        None
    }
}

/// A backend that takes every program on, and knows nothing beyond what the test says.
pub struct Only<T>(pub Arc<T>);

impl<T: Runs> Backend for Only<T> {
    fn start(&self, job: Job, _: Keep) -> BoxFuture<'_, Result<Started, BackendError>> {
        let end = self.0.run(job);
        async { Ok(Started { is_new: true, end }) }.boxed()
    }

    fn rejoin(&self, _: Job) -> BoxFuture<'_, Result<Option<Started>, BackendError>> {
        async { Ok(None) }.boxed()
    }

    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Execution>, BackendError>> {
        async { Ok(self.0.record(id)) }.boxed()
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

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}
