//! The Secret with the hashes, read live: a key that is added or taken out counts within a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, WatchEvent, WatchParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::format::Keys;
use super::{ApiKeys, replace};

/// Seconds after which a watch is renewed: load balancers with a short idle limit fall silent instead of
/// closing.
const WATCH_SECONDS: u32 = 200;

/// A watch that says nothing for so long is given up: bookmarks come about once a minute.
const SILENCE: Duration = Duration::from_secs(100);

/// Between two attempts, and the shortest time that a watch may take without counting as a failed one.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Kube(#[from] kube::Error),
    #[error("the watch failed: {0}")]
    Told(Box<kube::core::Status>),
    #[error("the Kubernetes API did not answer in time")]
    Deadline,
    #[error("the watch fell silent")]
    Silent,
}

/// The Secret and what waits for it.
struct Follower {
    secrets: Api<Secret>,
    name: String,
    patience: Duration,
    current: watch::Sender<Option<Arc<Keys>>>,
}

/// Follows the Secret `name` in the namespace of `client`, for ever. Until it was read for the first time
/// nobody is let in or refused; a Secret that does not exist holds no key. While the Kubernetes API is away,
/// the keys stay as they were. `patience` bounds a single read.
#[must_use]
pub fn follow(client: Client, name: &str, patience: Duration) -> ApiKeys {
    let (current, current_rx) = watch::channel(None);
    let follower = Follower {
        secrets: Api::default_namespaced(client),
        name: name.to_owned(),
        patience,
        current,
    };
    tokio::spawn(follower.run());
    ApiKeys::new(current_rx)
}

impl Follower {
    async fn run(self) {
        let mut was_up = true;
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                ended = self.once() => ended,
                () = self.current.closed() => return,
            };
            match ended {
                Ok(()) => was_up = true,
                // The first failure of a row is told, the others only to who looks closer.
                Err(error) if was_up => {
                    was_up = false;
                    tracing::warn!(secret = %self.name, %error, "the API keys can't be watched");
                }
                Err(error) => {
                    tracing::debug!(secret = %self.name, %error, "the API keys still can't be watched");
                }
            }
            if begun.elapsed() < PAUSE {
                sleep(PAUSE).await;
            }
        }
    }

    /// Reads the Secret and watches it from there. Not a list: the role allows this one name.
    async fn once(&self) -> Result<(), Lost> {
        let read = timeout(self.patience, self.secrets.get_opt(&self.name));
        let secret = read.await.map_err(|_| Lost::Deadline)??;
        // Of one that does not exist there is no version; a watch without one begins with what is there by
        // then.
        let version = secret
            .as_ref()
            .and_then(|secret| secret.metadata.resource_version.clone())
            .unwrap_or_default();
        self.take(secret);
        let parameters = WatchParams::default()
            .fields(&format!("metadata.name={}", self.name))
            .timeout(WATCH_SECONDS);
        let opened = timeout(self.patience, self.secrets.watch(&parameters, &version));
        let events = opened.await.map_err(|_| Lost::Deadline)??;
        pin_mut!(events);
        while let Some(event) = timeout(SILENCE, events.next()).await.map_err(|_| Lost::Silent)? {
            match event? {
                WatchEvent::Added(secret) | WatchEvent::Modified(secret) => self.take(Some(secret)),
                WatchEvent::Deleted(_) => self.take(None),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(Lost::Told(status)),
            }
        }
        Ok(())
    }

    fn take(&self, secret: Option<Secret>) {
        if secret.is_none() {
            tracing::warn!(secret = %self.name, "the Secret with the API keys does not exist");
        }
        let data: BTreeMap<_, _> = secret.and_then(|secret| secret.data).unwrap_or_default();
        let entries = data
            .iter()
            .map(|(name, content)| (name.as_str(), content.0.clone()));
        let (keys, problems) = Keys::read(entries);
        replace(&self.current, keys, &problems);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use axum::body::{Body, Bytes};
    use axum::extract::{Query, State};
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use axum::{Json, Router};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::super::key::{KeyHash, new_key};
    use super::*;
    use crate::auth::Refusal;

    /// A Kubernetes API with one Secret at most.
    #[derive(Clone, Default)]
    struct Fake {
        secret: Arc<Mutex<Option<Value>>>,
        is_lost: Arc<Mutex<bool>>,
        /// fake --events--> the open watch
        events_tx: Arc<Mutex<Option<mpsc::UnboundedSender<Value>>>>,
    }

    impl Fake {
        fn follow(&self) -> ApiKeys {
            let base = "/api/v1/namespaces/codeexec/secrets";
            let router = Router::new()
                .route(base, get(watch_secrets))
                .route(&format!("{base}/{{name}}"), get(read))
                .with_state(self.clone());
            follow(Client::new(router, "codeexec"), "keys", Duration::from_secs(5))
        }

        /// Puts another Secret in place, and tells the watch of it, if there is one.
        fn set(&self, kind: &str, keys: &[(&str, &str)]) {
            let data: BTreeMap<_, _> = keys
                .iter()
                .map(|(user, key)| {
                    let entry = json!({"hashes": [KeyHash::of(key).to_string()]});
                    (*user, STANDARD.encode(entry.to_string()))
                })
                .collect();
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": data,
                                "metadata": {"name": "keys", "resourceVersion": "8"}});
            *self.secret.lock().unwrap() = (kind != "DELETED").then(|| secret.clone());
            if let Some(events_tx) = &*self.events_tx.lock().unwrap() {
                let _ = events_tx.send(json!({"type": kind, "object": secret}));
            }
        }
    }

    fn failure(code: u16, reason: &str) -> Response {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                            "code": code, "reason": reason, "message": reason});
        (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
    }

    async fn read(State(fake): State<Fake>) -> Response {
        if *fake.is_lost.lock().unwrap() {
            return failure(500, "InternalError");
        }
        match &*fake.secret.lock().unwrap() {
            Some(secret) => Json(secret).into_response(),
            None => failure(404, "NotFound"),
        }
    }

    async fn watch_secrets(
        State(fake): State<Fake>,
        Query(query): Query<BTreeMap<String, String>>,
    ) -> Response {
        // Anything else the role would refuse.
        assert_eq!(query["fieldSelector"], "metadata.name=keys");
        assert_eq!(query["watch"], "true");
        let (events_tx, events_rx) = mpsc::unbounded_channel::<Value>();
        *fake.events_tx.lock().unwrap() = Some(events_tx);
        let lines = futures::stream::unfold(events_rx, |mut events_rx| async {
            let event = events_rx.recv().await?;
            Some((Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))), events_rx))
        });
        Body::from_stream(lines.boxed()).into_response()
    }

    /// Waits until a key is answered so.
    async fn until(keys: &ApiKeys, key: &str, expected: Result<&str, Refusal>) {
        let mut current = keys.current.clone();
        let wait = async {
            while keys.identify(key).as_ref().map(|identity| identity.user.as_str())
                != expected.as_ref().copied()
            {
                current.changed().await.unwrap();
            }
        };
        timeout(Duration::from_secs(20), wait)
            .await
            .expect("the keys change");
    }

    const NOBODY_S: Refusal = Refusal::Invalid("nobody has this key");

    #[tokio::test]
    async fn a_key_counts_from_its_entry_on_and_no_longer() {
        let fake = Fake::default();
        let (old, new) = (new_key(), new_key());
        fake.set("ADDED", &[("alice", &old)]);
        let keys = fake.follow();
        until(&keys, &old, Ok("alice")).await;
        while fake.events_tx.lock().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        fake.set("MODIFIED", &[("alice", &new)]);
        until(&keys, &old, Err(NOBODY_S)).await;
        assert_eq!(keys.identify(&new).unwrap().user, "alice");
        fake.set("DELETED", &[]);
        until(&keys, &new, Err(NOBODY_S)).await;
        fake.set("ADDED", &[("bob", &new)]);
        until(&keys, &new, Ok("bob")).await;
    }

    #[tokio::test]
    async fn a_secret_that_does_not_exist_lets_nobody_in() {
        let keys = Fake::default().follow();
        let key = new_key();
        until(&keys, &key, Err(NOBODY_S)).await;
    }

    #[tokio::test]
    async fn a_lost_kubernetes_api_refuses_nobody_for_good_and_changes_nothing_that_was_known() {
        let fake = Fake::default();
        let key = new_key();
        fake.set("ADDED", &[("alice", &key)]);
        *fake.is_lost.lock().unwrap() = true;
        let keys = fake.follow();
        assert_eq!(keys.identify(&key), Err(Refusal::Unavailable));
        *fake.is_lost.lock().unwrap() = false;
        until(&keys, &key, Ok("alice")).await;
        *fake.is_lost.lock().unwrap() = true;
        while fake.events_tx.lock().unwrap().take().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(keys.identify(&key).unwrap().user, "alice");
        *fake.is_lost.lock().unwrap() = false;
        // The watch ended; the next one begins with what is there by then.
        let next = new_key();
        fake.set("MODIFIED", &[("alice", &next)]);
        until(&keys, &next, Ok("alice")).await;
    }
}
