//! The watch that counts.

use codeexec_crds::{LABEL_PHASE, LABEL_USER};

use super::*;
use crate::auth::UserLimits;
use crate::limits::Refusal;

const RATE_OF_TWO: [&str; 4] = ["--rate-limit", "2", "--max-concurrent-per-user", "1"];

fn counted(name: &str, user: &str, age: i64, has_ended: bool) -> Value {
    let created = Timestamp::now() - jiff::SignedDuration::from_secs(age);
    let mut labels = json!({LABEL_USER: user_hash(user)});
    if has_ended {
        labels[LABEL_PHASE] = json!("Succeeded");
    }
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
           "metadata": {"name": name, "labels": labels, "resourceVersion": "9",
                        "creationTimestamp": format!("{created:.0}")}})
}

impl Fake {
    fn show(&self, kind: &str, object: &Value) {
        let events = self.0.counted_tx.lock().unwrap();
        let event = json!({"type": kind, "object": object});
        events.as_ref().unwrap().send(event).unwrap();
    }
}

async fn counting(fake: Fake) -> Backends {
    let backends = backend_on(fake, &RATE_OF_TWO).await;
    backends.0.called("count by watch from 7", 1).await;
    backends
}

async fn admit(limits: &Arc<Limits>, user: &str, id: &str) -> Result<(), Refusal> {
    let admission = limits.admit(user, id, UserLimits::default()).await?;
    admission.accepted();
    Ok(())
}

fn is_rate_limited(result: &Result<(), Refusal>) -> bool {
    matches!(result, Err(Refusal::TooMany(_)))
}

#[tokio::test]
async fn what_was_begun_before_the_start_is_counted_and_what_is_old_is_not() {
    let fake = Fake::default();
    for (name, user, age) in [
        ("a", "alice", 1),
        ("b", "alice", 20),
        ("c", "bob", 90),
        ("d", "bob", 3000),
    ] {
        fake.objects()
            .insert(name.to_owned(), counted(name, user, age, true));
    }
    let (fake, _backend, limits) = counting(fake).await;
    assert_eq!(fake.calls("count by list"), 2);
    assert!(is_rate_limited(&admit(&limits, "alice", "e").await));
    assert_eq!(admit(&limits, "bob", "f").await, Ok(()));
}

#[tokio::test]
async fn another_replicas_executions_are_counted_and_a_deletion_takes_nothing_off() {
    let (fake, _backend, limits) = counting(Fake::default()).await;
    fake.show("ADDED", &counted("a", "alice", 0, false));
    fake.show("ADDED", &counted("b", "alice", 0, false));
    fake.show("DELETED", &counted("a", "alice", 0, false));
    fake.show("MODIFIED", &counted("b", "alice", 0, true));
    // Events come in their order: once this one is known, so are those before it.
    fake.show("ADDED", &counted("c", "bob", 0, false));
    let known = async {
        loop {
            match limits.admit("bob", "d", UserLimits::default()).await {
                Ok(admission) => admission.refused(),
                Err(refusal) => break refusal,
            }
            tokio::task::yield_now().await;
        }
    };
    let refusal = tokio::time::timeout(Duration::from_secs(20), known).await;
    assert_eq!(refusal, Ok(Refusal::TooManyAtOnce(1)));
    assert!(is_rate_limited(&admit(&limits, "alice", "e").await));
}

#[tokio::test]
async fn the_end_of_an_own_execution_frees_its_place_before_any_label_says_so() {
    let (fake, backend, limits) = counting(Fake::default()).await;
    let id = super::super::super::new_id();
    admit(&limits, "anonymous", &id).await.unwrap();
    let running = {
        let (backend, job) = (backend.clone(), job(&id));
        tokio::spawn(async move { execute(&backend, job).await })
    };
    fake.called("create", 1).await;
    while fake.objects().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        admit(&limits, "anonymous", "other").await,
        Err(Refusal::TooManyAtOnce(1))
    );
    fake.end(Phase::Succeeded, Reason::Completed, true);
    running.await.unwrap().unwrap();
    // The next one only waits until the watch has shown this one.
    let next = tokio::spawn({
        let limits = limits.clone();
        async move { admit(&limits, "anonymous", "other").await }
    });
    fake.show("ADDED", &counted(&id, "anonymous", 0, false));
    assert_eq!(next.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn without_the_watch_nobody_is_admitted_uncounted() {
    let fake = Fake::default();
    *fake.0.lost.lock().unwrap() = true;
    let client = Client::new(fake.router(), "codeexec-executions");
    let settings = Settings::parse_from([
        "codeexec-api",
        "--replica",
        "replica-1",
        "--kube-timeout-ms",
        "400",
    ]);
    let limits = Limits::shared(&settings);
    let backend = KubernetesBackend::with_client(client, &settings, limits.clone(), CancellationToken::new());
    assert_eq!(admit(&limits, "alice", "a").await, Err(Refusal::NotCounting));
    assert!(backend.ready().is_err());
    *fake.0.lost.lock().unwrap() = false;
    fake.called("count by watch", 1).await;
    assert_eq!(admit(&limits, "alice", "a").await, Ok(()));
    // Nothing confirms it, so what others do is not known either.
    assert_eq!(admit(&limits, "alice", "b").await, Err(Refusal::NotCounting));
    assert_eq!(admit(&limits, "bob", "c").await, Ok(()));
}

#[tokio::test]
async fn nothing_is_watched_for_quotas_that_nobody_has() {
    let (fake, backend, limits) = backend_on(Fake::default(), &["--rate-limit", "0"]).await;
    assert_eq!(admit(&limits, "alice", "a").await, Ok(()));
    assert!(backend.ready().is_ok());
    assert_eq!(fake.calls("count by"), 0);
    // A user with a quota of their own comes.
    let own = UserLimits {
        per_minute: Some(1),
        concurrent: None,
    };
    limits.admit("carol", "b", own).await.unwrap().accepted();
    assert!(matches!(
        limits.admit("carol", "c", own).await,
        Err(Refusal::TooMany(_))
    ));
    assert!(fake.calls("count by list") > 0);
}
