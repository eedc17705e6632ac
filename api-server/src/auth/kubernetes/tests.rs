//! Against a Kubernetes API of our own, which knows some tokens and some rights.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::future::join_all;
use serde_json::{Value, json};

use super::*;

const ACCOUNT: &str = "system:serviceaccount:portal:web";

/// What the fake was asked, and how it answers.
#[derive(Clone, Default)]
struct Fake {
    reviews: Arc<Mutex<Vec<Value>>>,
    /// Status of a TokenReview.
    token: Arc<Mutex<Value>>,
    /// Verbs that everybody has.
    verbs: Arc<Mutex<Vec<&'static str>>>,
    is_lost: Arc<Mutex<bool>>,
}

impl Fake {
    fn tokens(&self) -> ClusterTokens {
        let accesses =
            "/apis/authorization.k8s.io/v1/namespaces/codeexec-executions/localsubjectaccessreviews";
        let router = Router::new()
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review_token))
            .route(accesses, post(review_access))
            .with_state(self.clone());
        let client = Client::new(router, "codeexec");
        ClusterTokens::new(client, "codeexec", "codeexec-executions", Duration::from_secs(5))
    }

    fn knows(&self, audiences: &[&str], verbs: &[&'static str]) {
        *self.token.lock().unwrap() = json!({
            "authenticated": true, "audiences": audiences,
            "user": {"username": ACCOUNT, "uid": "u-1", "groups": ["system:serviceaccounts"],
                     "extra": {"authentication.kubernetes.io/pod-name": ["web-1"]}}
        });
        *self.verbs.lock().unwrap() = verbs.to_vec();
    }

    fn asked(&self) -> usize {
        self.reviews.lock().unwrap().len()
    }
}

fn lost() -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "code": 500, "reason": "InternalError", "message": "lost"});
    (StatusCode::INTERNAL_SERVER_ERROR, Json(status)).into_response()
}

async fn review_token(State(fake): State<Fake>, Json(mut review): Json<Value>) -> Response {
    fake.reviews.lock().unwrap().push(review.clone());
    if *fake.is_lost.lock().unwrap() {
        return lost();
    }
    review["status"] = fake.token.lock().unwrap().clone();
    (StatusCode::CREATED, Json(review)).into_response()
}

async fn review_access(State(fake): State<Fake>, Json(mut review): Json<Value>) -> Response {
    fake.reviews.lock().unwrap().push(review.clone());
    let verb = review["spec"]["resourceAttributes"]["verb"].as_str().unwrap();
    let allowed = fake.verbs.lock().unwrap().contains(&verb);
    review["status"] = json!({"allowed": allowed});
    (StatusCode::CREATED, Json(review)).into_response()
}

#[tokio::test]
async fn an_account_that_may_create_codeexecutions_is_let_in_under_its_own_name() {
    let fake = Fake::default();
    fake.knows(&["codeexec"], &["create"]);
    let identity = fake.tokens().identify("t-1").await.unwrap();
    assert_eq!(identity, Identity::new(ACCOUNT, Via::Kubernetes));
    let reviews = fake.reviews.lock().unwrap();
    assert_eq!(
        reviews[0]["spec"],
        json!({"token": "t-1", "audiences": ["codeexec"]})
    );
    let access = reviews
        .iter()
        .find(|review| review["spec"]["resourceAttributes"]["verb"] == "create")
        .unwrap();
    let attributes = json!({"group": "codeexec.dev", "resource": "codeexecutions",
                            "namespace": "codeexec-executions", "verb": "create"});
    // All that the cluster said of them is asked about: rights may hang on a group.
    assert_eq!(
        access["spec"],
        json!({"user": ACCOUNT, "uid": "u-1", "groups": ["system:serviceaccounts"],
               "extra": {"authentication.kubernetes.io/pod-name": ["web-1"]},
               "resourceAttributes": attributes})
    );
}

#[tokio::test]
async fn whoever_can_read_and_end_everybody_s_with_kubectl_is_an_administrator() {
    for (verbs, is_admin) in [
        (&["create", "list", "patch"][..], true),
        (&["create", "list"][..], false),
        (&["create", "patch"][..], false),
    ] {
        let fake = Fake::default();
        fake.knows(&["codeexec"], verbs);
        assert_eq!(
            fake.tokens().identify("t-1").await.unwrap().is_admin,
            is_admin,
            "{verbs:?}"
        );
    }
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused_and_its_rights_do_not_matter() {
    for audiences in [&[][..], &["https://kubernetes.default.svc"][..]] {
        let fake = Fake::default();
        fake.knows(audiences, &["create"]);
        let refusal = fake.tokens().identify("t-1").await.unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal:?}");
        assert_eq!(fake.asked(), 1);
    }
    let fake = Fake::default();
    *fake.token.lock().unwrap() = json!({"authenticated": false, "error": "expired"});
    assert!(matches!(
        fake.tokens().identify("t-1").await,
        Err(Refusal::Invalid(_))
    ));
}

#[tokio::test]
async fn an_account_without_the_right_is_known_but_forbidden() {
    let fake = Fake::default();
    fake.knows(&["codeexec"], &["list", "patch"]);
    assert!(matches!(
        fake.tokens().identify("t-1").await,
        Err(Refusal::Forbidden(_))
    ));
}

#[tokio::test]
async fn the_same_token_is_reviewed_once_whether_it_is_good_or_not() {
    let fake = Fake::default();
    fake.knows(&["codeexec"], &["create"]);
    let tokens = fake.tokens();
    let all = join_all((0..50).map(|_| tokens.identify("t-1"))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(fake.asked(), 4);
    fake.knows(&[], &[]);
    for _ in 0..3 {
        assert!(tokens.identify("t-1").await.is_ok());
        assert!(tokens.identify("t-2").await.is_err());
    }
    assert_eq!(fake.asked(), 5);
}

#[tokio::test]
async fn a_lost_kubernetes_api_refuses_nobody_for_good() {
    let fake = Fake::default();
    fake.knows(&["codeexec"], &["create"]);
    let tokens = fake.tokens();
    *fake.is_lost.lock().unwrap() = true;
    assert_eq!(tokens.identify("t-1").await, Err(Refusal::Unavailable));
    *fake.is_lost.lock().unwrap() = false;
    assert!(tokens.identify("t-1").await.is_ok());
}

#[test]
fn an_answer_holds_for_a_minute_at_most_and_a_refusal_for_less() {
    let now = Instant::now();
    let known = Verdict::Known(Identity::new(ACCOUNT, Via::Kubernetes));
    let refused = Verdict::Refused(Refusal::Missing);
    let holds = |verdict| Holds.expire_after_create(&[0; 32], verdict, now).unwrap();
    assert!(holds(&known) <= Duration::from_secs(60));
    assert!(holds(&refused) < holds(&known));
}
