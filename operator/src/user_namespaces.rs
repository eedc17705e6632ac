//! Whether the cluster gives Pods a user namespace of their own: found out, not believed.
//!
//! An old API server drops the field without a word, an old container runtime ignores it, and a node that can't do
//! it never starts the Pod, which would hold up somebody's execution. So a Pod of the operator's own asks first, and
//! its runner reads the answer from /proc/self/uid_map. Each RuntimeClass has an answer of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use codeexec_crds::{ExecutorPoolSpec, LABEL_PROBE};
use codeexec_execution::isolation::Layer;
use codeexec_runner::frames::{Decoder, FromRunner};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::connection::call;
use crate::driver::Context;
use crate::pod::Template;

/// How long executions wait for the first answer; without one by then they start as if it were no.
const GRACE: Duration = Duration::from_secs(3);

/// How long the Pod that asks may take, the pull of its image included.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often its log is read.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a yes holds: nodes come and go.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

/// How long a no holds: it may have been a full node.
const ASK_AGAIN_AFTER_NO: Duration = Duration::from_secs(600);

/// What is known of one RuntimeClass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Unknown,
    Yes,
    No,
}

#[derive(Clone, Debug)]
struct Question {
    asked: Instant,
    answer_rx: watch::Receiver<Answer>,
}

/// The answers by RuntimeClass.
#[derive(Debug, Default)]
pub struct UserNamespaces(Mutex<HashMap<Option<String>, Question>>);

impl UserNamespaces {
    /// `hostUsers` of the Pods of a pool. Waits a moment where that is still being found out.
    pub async fn host_users(&self, context: &Arc<Context>, pool: &ExecutorPoolSpec) -> Option<bool> {
        let settings = &context.settings;
        if let Some(set) = pool.host_users.or(settings.host_users) {
            return Some(set);
        }
        // Without one nothing may run anyway.
        if settings.isolation_require.contains(&Layer::UserNamespace) {
            return Some(false);
        }
        let Question { asked, mut answer_rx } = self.ask(context, pool);
        let known = answer_rx.wait_for(|answer| *answer != Answer::Unknown);
        let answer = tokio::time::timeout(GRACE.saturating_sub(asked.elapsed()), known).await;
        matches!(answer, Ok(Ok(answer)) if *answer == Answer::Yes).then_some(false)
    }

    /// Begins to find out for a pool what nobody has asked yet.
    fn ask(&self, context: &Arc<Context>, pool: &ExecutorPoolSpec) -> Question {
        let class = pool
            .runtime_class_name
            .clone()
            .or_else(|| context.settings.runtime_class.clone());
        // A panic elsewhere can't have left the map half written.
        let mut questions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || {
            let (answer_tx, answer_rx) = watch::channel(Answer::Unknown);
            tokio::spawn(keep_asking(context.clone(), pool.clone(), answer_tx));
            Question {
                asked: Instant::now(),
                answer_rx,
            }
        };
        questions.entry(class).or_insert_with(begin).clone()
    }
}

/// Finds out for the pool of requests that name none, before the first of them comes.
pub async fn begin(context: &Arc<Context>) {
    let pool = call(context.pool_api.get("default")).await;
    let pool = pool.map(|pool| pool.spec).unwrap_or_default();
    context.user_namespaces.host_users(context, &pool).await;
}

async fn keep_asking(context: Arc<Context>, pool: ExecutorPoolSpec, answer_tx: watch::Sender<Answer>) {
    loop {
        remove_left_over(&context).await;
        let answer = match find_out(&context, &pool).await {
            Ok(true) => Answer::Yes,
            Ok(false) => Answer::No,
            Err(why) => {
                warn!(why, "a Pod with a user namespace of its own did not start");
                Answer::No
            }
        };
        info!(
            runtime_class = pool
                .runtime_class_name
                .as_ref()
                .or(context.settings.runtime_class.as_ref()),
            user_namespaces = answer == Answer::Yes,
            "found out whether Pods get user namespaces of their own"
        );
        answer_tx.send_replace(answer);
        let pause = if answer == Answer::Yes {
            ASK_AGAIN
        } else {
            ASK_AGAIN_AFTER_NO
        };
        tokio::time::sleep(pause).await;
    }
}

/// Starts a Pod and reads what its runner reports.
async fn find_out(context: &Context, pool: &ExecutorPoolSpec) -> Result<bool, String> {
    let name = format!("userns-{:016x}", rand::random::<u64>());
    let template = Template {
        settings: &context.settings,
        pool,
        host_users: Some(false),
    };
    let prepared = template.for_probe(&name, PATIENCE);
    call(context.pods.create(&PostParams::default(), prepared.object()))
        .await
        .map_err(|error| error.message())?;
    let report = tokio::time::timeout(PATIENCE, report(context, &name)).await;
    let deleted = call(
        context
            .pods
            .delete(&name, &DeleteParams::default().grace_period(0)),
    )
    .await;
    if let Err(error) = deleted {
        warn!(pod = name, %error, "could not delete a Pod that was a question");
    }
    report.map_err(|_| format!("not within {} s", PATIENCE.as_secs()))?
}

async fn report(context: &Context, pod: &str) -> Result<bool, String> {
    loop {
        match call(context.pods.logs(pod, &LogParams::default())).await {
            Ok(log) => {
                let frames = Decoder::<FromRunner>::default().push(log.as_bytes());
                let ready = frames.into_iter().find_map(|frame| match frame {
                    FromRunner::Ready(ready) => Some(ready),
                    _ => None,
                });
                if let Some(ready) = ready {
                    return Ok(ready.isolation.user_namespace);
                }
            }
            Err(error) if error.is_not_found() => return Err("somebody deleted it".to_owned()),
            // There is no log before there is a container.
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Deletes what processes left behind that died while they asked.
async fn remove_left_over(context: &Context) {
    let probes = ListParams::default().labels(LABEL_PROBE);
    let Ok(pods) = call(context.pods.list_metadata(&probes)).await else {
        return;
    };
    let patience = i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX);
    let is_old = |created: Timestamp| Timestamp::now().duration_since(created).as_secs() > 2 * patience;
    for pod in pods {
        if pod.creation_timestamp().is_some_and(|created| is_old(created.0)) {
            // Another replica may have been faster.
            let _ = call(context.pods.delete(&pod.name_any(), &DeleteParams::default())).await;
        }
    }
}
