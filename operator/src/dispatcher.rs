//! Gives each unfinished execution a driver, and each driver what the watches say of its execution and Pods.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use codeexec_audit::Execution as Audited;
use codeexec_crds::{CodeExecution, Reason};
use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::error_boundary::InvalidObject;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};
use tracing::{error, info, warn};

use crate::connection::call;
use crate::driver::{Context, Driver, ExecutionUpdate, PodUpdate};
use crate::observe::PodView;
use crate::records;
use crate::watch::{self as watches, Change};

/// Pause before a driver that panicked is begun anew.
const AFTER_PANIC: Duration = Duration::from_secs(1);

struct Handle {
    updates_tx: watch::Sender<ExecutionUpdate>,
    pods_tx: mpsc::UnboundedSender<PodUpdate>,
    execution: Arc<CodeExecution>,
}

/// Which execution each driver drives, and which Pods there are.
pub struct Dispatcher {
    context: Arc<Context>,
    /// By uid. A handle stays until its execution has left the watch: an event of before its result that comes
    /// late must not begin it again.
    handles: HashMap<String, Handle>,
    /// By name.
    pods: HashMap<String, PodView>,
    drivers: JoinSet<()>,
    driven: HashMap<Id, String>,
    executions_listed: bool,
}

impl Dispatcher {
    /// A dispatcher that drives nothing yet.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            handles: HashMap::new(),
            pods: HashMap::new(),
            drivers: JoinSet::new(),
            driven: HashMap::new(),
            executions_listed: false,
        }
    }

    /// Works for ever.
    pub async fn run(mut self) {
        let mut pods = pin!(watches::pods(self.context.pods.clone()));
        let mut listed = HashSet::new();
        // What took place before this process is read off the Pods, so all of them are known first.
        while let Some(change) = pods.next().await {
            let done = matches!(change, Change::Listed);
            self.on_pod(change, &mut listed);
            if done {
                break;
            }
        }
        self.context.pools.pods_are_known();
        let mut executions = pin!(watches::unfinished(self.context.guarded.clone()));
        let mut listed_executions = HashSet::new();
        loop {
            tokio::select! {
                Some(change) = pods.next() => self.on_pod(change, &mut listed),
                Some(change) = executions.next() => self.on_execution(change, &mut listed_executions),
                Some(ended) = self.drivers.join_next_with_id() => self.on_driver_end(ended),
            }
        }
    }

    fn on_pod(&mut self, change: Change<PodView>, listed: &mut HashSet<String>) {
        match change {
            Change::Restarted => listed.clear(),
            Change::Present(view) => {
                self.context.images.learn(&view);
                listed.insert(view.name.clone());
                self.pods.insert(view.name.clone(), view.clone());
                if view.is_idle() {
                    return self.context.pools.on_idle_pod(&self.context, view);
                }
                self.context.pools.forget_pod(&view.name, false);
                if self.context.pools.on_used_pod(&view) {
                    return;
                }
                match view.execution_uid.as_ref().and_then(|uid| self.handles.get(uid)) {
                    // A driver that has ended no longer listens.
                    Some(handle) => drop(handle.pods_tx.send(PodUpdate::Present(Box::new(view)))),
                    None => self.look_for_owner(&view),
                }
            }
            Change::Gone(view) => self.pod_gone(view),
            Change::Listed => {
                let gone: Vec<_> = self
                    .pods
                    .values()
                    .filter(|view| !listed.contains(&view.name))
                    .cloned()
                    .collect();
                gone.into_iter().for_each(|view| self.pod_gone(view));
            }
        }
    }

    fn pod_gone(&mut self, view: PodView) {
        self.pods.remove(&view.name);
        self.context.pools.forget_pod(&view.name, true);
        if let Some(handle) = view.execution_uid.as_ref().and_then(|uid| self.handles.get(uid)) {
            let _ = handle.pods_tx.send(PodUpdate::Gone(Box::new(view)));
        }
    }

    fn on_execution(
        &mut self,
        change: Change<Result<Arc<CodeExecution>, Box<InvalidObject>>>,
        listed: &mut HashSet<String>,
    ) {
        match change {
            Change::Restarted => listed.clear(),
            Change::Present(Ok(execution)) => {
                let uid = execution.metadata.uid.clone().unwrap_or_default();
                listed.insert(uid.clone());
                match self.handles.get_mut(&uid) {
                    Some(handle) => {
                        handle.execution = execution.clone();
                        handle
                            .updates_tx
                            .send_replace(ExecutionUpdate::Present(execution));
                    }
                    None => self.drive(uid, execution, Duration::ZERO),
                }
            }
            Change::Present(Err(invalid)) => self.reject(*invalid),
            Change::Gone(Ok(execution)) => self.left(&execution.metadata.uid.clone().unwrap_or_default()),
            Change::Gone(Err(_)) => {}
            Change::Listed => {
                let left: Vec<_> = self
                    .handles
                    .keys()
                    .filter(|uid| !listed.contains(*uid))
                    .cloned()
                    .collect();
                left.iter().for_each(|uid| self.left(uid));
                self.executions_listed = true;
                self.pods.values().for_each(|view| self.look_for_owner(view));
            }
        }
    }

    fn left(&mut self, uid: &str) {
        if let Some(handle) = self.handles.get(uid) {
            handle.updates_tx.send_replace(ExecutionUpdate::Left);
            if !self.driven.values().any(|driven| driven == uid) {
                self.handles.remove(uid);
            }
        }
    }

    fn drive(&mut self, uid: String, execution: Arc<CodeExecution>, pause: Duration) {
        let (updates_tx, updates_rx) = watch::channel(ExecutionUpdate::Present(execution.clone()));
        let (pods_tx, pods_rx) = mpsc::unbounded_channel();
        let pods = self
            .pods
            .values()
            .filter(|view| view.execution_uid.as_ref() == Some(&uid))
            .cloned()
            .collect();
        // Whoever led before may have begun with what is in the first list, and so may a driver that panicked.
        let inherited = !self.executions_listed || !pause.is_zero();
        let driver = Driver::new(
            self.context.clone(),
            execution.clone(),
            pods,
            inherited,
            updates_rx,
            pods_rx,
        );
        let task = self.drivers.spawn(async move {
            tokio::time::sleep(pause).await;
            driver.run().await;
        });
        self.driven.insert(task.id(), uid.clone());
        self.handles.insert(
            uid,
            Handle {
                updates_tx,
                pods_tx,
                execution,
            },
        );
    }

    fn on_driver_end(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some(uid) = self.driven.remove(&id) else {
            return;
        };
        let left = self
            .handles
            .get(&uid)
            .is_none_or(|handle| matches!(*handle.updates_tx.borrow(), ExecutionUpdate::Left));
        if left {
            self.handles.remove(&uid);
        }
        // A defect in one driver costs that execution a second, not its result.
        if let Err(failure) = ended
            && failure.is_panic()
            && let Some(handle) = self.handles.get(&uid)
        {
            error!(uid, "a driver panicked; beginning it anew");
            let execution = handle.execution.clone();
            self.drive(uid, execution, AFTER_PANIC);
        }
    }

    /// Ends a resource that this version can't read, so that it does not wait for ever.
    fn reject(&self, invalid: InvalidObject) {
        let name = invalid.metadata.name.unwrap_or_default();
        let uid = invalid.metadata.uid.unwrap_or_default();
        warn!(
            execution = name,
            error = invalid.error,
            "a CodeExecution can't be read"
        );
        let api = self.context.executions.clone();
        let status = json!({"status": {
            "phase": "Failed",
            "reason": Reason::Rejected.as_str(),
            "retryable": false,
            "error": format!("the resource can't be read: {}", invalid.error),
            "completionTime": format!("{:.0}", jiff::Timestamp::now()),
            "conditions": [{
                "type": "Complete",
                "status": "True",
                "reason": Reason::Rejected.as_str(),
                "message": "the execution ended as Failed",
                "lastTransitionTime": format!("{:.0}", jiff::Timestamp::now()),
            }],
        }});
        tokio::spawn(async move {
            // The answer is the object that can't be read; that it can't is no failure of the write.
            let result = call(api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))).await;
            if let Err(error) = result.map(drop)
                && error.status().is_some()
            {
                warn!(execution = name, %error, "could not reject a malformed CodeExecution");
                return;
            }
            Audited::unreadable(&name, &uid).write();
        });
    }

    /// Deletes a Pod whose execution has ended, or is gone: left over from a process that died in between.
    fn look_for_owner(&self, view: &PodView) {
        let known = view
            .execution_uid
            .as_ref()
            .is_none_or(|uid| self.handles.contains_key(uid));
        if !self.executions_listed || view.deleting || known || self.context.pools.is_used_pod(&view.name) {
            return;
        }
        let (context, view) = (self.context.clone(), view.clone());
        tokio::spawn(async move {
            let owner = call(context.executions.get(view.owner.as_deref().unwrap_or_default())).await;
            let orphaned = match owner {
                Ok(object) => object.metadata.uid != view.execution_uid || records::is_finished(&object),
                Err(error) => error.is_not_found(),
            };
            if orphaned {
                info!(pod = view.name, "deleting a Pod without an execution");
                // As it was seen: it may have been claimed since.
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        resource_version: view.resource_version.clone(),
                        uid: None,
                    }),
                    ..DeleteParams::default()
                };
                if let Err(error) = call(context.pods.delete(&view.name, &params)).await {
                    warn!(pod = view.name, %error, "could not delete a Pod without an execution");
                }
            }
        });
    }
}
