//! An execution that is told as it goes on.

use codeexec_runner::frames::{FromRunner, Output, Started, Stream, encode};
use tokio::task::JoinHandle;

use super::*;

const NAME: &str = "cex-live";
const UID: &str = "uid of it";
const POD: &str = "pool-default-1";

impl Fake {
    /// The execution stands so now, and the watch of it says so.
    fn stands(&self, status: &Value, told: bool) {
        let object = json!({
            "apiVersion": "codeexec.dev/v1alpha1", "kind": "CodeExecution",
            "metadata": {"name": NAME, "uid": UID, "resourceVersion": "9"},
            "spec": {"code": "print(1)", "user": "alice"},
            "status": status,
        });
        self.objects().insert(NAME.to_owned(), object.clone());
        if told {
            let events = self.0.one_tx.lock().unwrap();
            let event = json!({"type": "MODIFIED", "object": object});
            events.as_ref().unwrap().send(event).unwrap();
        }
    }

    fn logs(&self, bytes: Vec<u8>) {
        let log = self.0.log_tx.lock().unwrap();
        log.as_ref().unwrap().send(bytes).unwrap();
    }

    fn end_log(&self) {
        *self.0.log_tx.lock().unwrap() = None;
    }
}

fn runs() -> Value {
    json!({"phase": "Running", "podName": POD, "startTime": "2026-01-31T12:00:00Z"})
}

fn piece(seq: u64) -> Output {
    Output {
        stream: Stream::Stdout,
        seq,
        data: format!("{seq}\n"),
    }
}

fn started(uid: &str) -> Vec<u8> {
    encode(&FromRunner::Started(Started { uid: uid.to_owned() }))
}

fn printed(seq: u64) -> Vec<u8> {
    encode(&FromRunner::Output(piece(seq)))
}

struct Followed {
    progress_rx: mpsc::Receiver<Progress>,
    end: JoinHandle<Result<CodeExecutionStatus, BackendError>>,
}

impl Followed {
    fn from(backend: &KubernetesBackend, next_seq: u64) -> Self {
        let (progress_tx, progress_rx) = mpsc::channel(16);
        let end = tokio::spawn(backend.follow(NAME, next_seq, progress_tx));
        Self { progress_rx, end }
    }

    async fn next(&mut self) -> Progress {
        let next = tokio::time::timeout(Duration::from_secs(20), self.progress_rx.recv());
        next.await.expect("something is told").unwrap()
    }
}

#[tokio::test]
async fn it_is_told_from_its_place_in_the_queue_over_its_output_to_its_end() {
    let (fake, backend) = backend().await;
    fake.stands(&json!({"phase": "Queued", "queuePosition": 2}), false);
    let mut followed = Followed::from(&backend, 0);
    assert_eq!(followed.next().await, Progress::Queued { position: Some(2) });
    fake.called("one", 1).await;
    fake.stands(&json!({"phase": "Queued", "queuePosition": 1}), true);
    assert_eq!(followed.next().await, Progress::Queued { position: Some(1) });
    fake.stands(&runs(), true);
    let at = "2026-01-31T12:00:00Z".parse().ok();
    assert_eq!(followed.next().await, Progress::Started { at });
    fake.called(&format!("log of {POD}"), 1).await;
    // The Pod has served others before.
    fake.logs([started("another"), printed(0), started(UID), printed(0)].concat());
    assert_eq!(followed.next().await, Progress::Printed(piece(0)));
    fake.logs(printed(1));
    assert_eq!(followed.next().await, Progress::Printed(piece(1)));
    fake.stands(
        &json!({"phase": "Succeeded", "reason": "Completed", "output": "0\n1\n"}),
        true,
    );
    let status = followed.end.await.unwrap().unwrap();
    assert_eq!(status.output.as_deref(), Some("0\n1\n"));
}

#[tokio::test]
async fn a_log_that_breaks_off_is_read_again_and_nothing_is_told_twice() {
    let (fake, backend) = backend().await;
    fake.stands(&runs(), false);
    let mut followed = Followed::from(&backend, 1);
    assert!(matches!(followed.next().await, Progress::Started { .. }));
    fake.called("log", 1).await;
    let half = printed(2);
    fake.logs(
        [
            started(UID),
            printed(0),
            printed(1),
            half[..half.len() / 2].to_vec(),
        ]
        .concat(),
    );
    assert_eq!(followed.next().await, Progress::Printed(piece(1)));
    fake.end_log();
    fake.called("log", 2).await;
    fake.logs([started(UID), printed(0), printed(1), printed(2)].concat());
    assert_eq!(followed.next().await, Progress::Printed(piece(2)));
}

#[tokio::test]
async fn one_that_ended_or_is_gone_is_told_at_once() {
    let (fake, backend) = backend().await;
    let gone = Followed::from(&backend, 0).end.await.unwrap();
    assert_eq!(gone, Err(BackendError::Deleted));
    fake.stands(&json!({"phase": "Failed", "reason": "Evicted"}), false);
    let status = Followed::from(&backend, 0).end.await.unwrap().unwrap();
    assert_eq!(status.reason, Some(Reason::Evicted));
    assert_eq!(fake.calls("one"), 0);
}

#[tokio::test]
async fn whoever_leaves_is_told_nothing_more_and_the_end_comes_all_the_same() {
    let (fake, backend) = backend().await;
    fake.stands(&json!({"phase": "Queued"}), false);
    let mut followed = Followed::from(&backend, 0);
    assert_eq!(followed.next().await, Progress::Queued { position: None });
    fake.called("one", 1).await;
    followed.progress_rx.close();
    fake.stands(&runs(), true);
    fake.stands(&json!({"phase": "Cancelled", "reason": "Cancelled"}), true);
    let status = followed.end.await.unwrap().unwrap();
    assert_eq!(status.reason, Some(Reason::Cancelled));
}

#[tokio::test]
async fn only_one_that_nobody_waits_for_says_that_somebody_may_look_on() {
    let live = |live| {
        let job = Job { live, ..job(NAME) };
        object(&job, "replica")
            .annotations()
            .contains_key(ANNOTATION_LIVE)
    };
    assert!(live(true) && !live(false));
}
