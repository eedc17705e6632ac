//! Against an issuer of our own, which serves its keys and signs whatever a test wants signed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::get_current_timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// A key of the issuer, P-256.
struct IssuerKey {
    name: &'static str,
    pair: EcdsaKeyPair,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl IssuerKey {
    fn new(name: &'static str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { name, pair }
    }

    fn public(&self) -> Value {
        // 4, x, y
        let point = self.pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": self.name, "use": "sig", "alg": "ES256",
               "x": b64(&point[1..33]), "y": b64(&point[33..])})
    }

    /// A token with this header and these claims, signed with this key.
    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", b64(signature))
    }
}

#[derive(Clone)]
struct Issuer {
    url: String,
    keys: Arc<Mutex<Vec<Value>>>,
    fetches: Arc<AtomicUsize>,
}

impl Issuer {
    async fn new(keys: &[&IssuerKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            url: format!("http://{}/realm", listener.local_addr().unwrap()),
            keys: Arc::new(Mutex::new(keys.iter().map(|key| key.public()).collect())),
            fetches: Arc::default(),
        };
        let router = Router::new()
            .route("/realm/.well-known/openid-configuration", get(describe))
            .route("/realm/keys", get(serve_keys))
            .with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    fn settings(&self) -> OidcSettings {
        OidcSettings {
            issuer: self.url.parse().unwrap(),
            audience: "codeexec".to_owned(),
            jwks_url: None,
            algorithms: vec![SigningAlgorithm::ES256, SigningAlgorithm::RS256],
            user_claim: "sub".to_owned(),
            user_prefix: "oidc:".to_owned(),
            ca_file: None,
            leeway_seconds: 30,
        }
    }

    fn claims(&self) -> Value {
        json!({"iss": self.url, "aud": "codeexec", "sub": "alice", "exp": get_current_timestamp() + 300})
    }

    /// These claims with some of them changed; null takes one out.
    fn claims_but(&self, changes: &Value) -> Value {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }
}

async fn describe(State(issuer): State<Issuer>) -> Json<Value> {
    Json(json!({"issuer": issuer.url, "jwks_uri": format!("{}/keys", issuer.url)}))
}

async fn serve_keys(State(issuer): State<Issuer>) -> Json<Value> {
    issuer.fetches.fetch_add(1, Ordering::SeqCst);
    Json(json!({"keys": *issuer.keys.lock().unwrap()}))
}

fn header(key: &IssuerKey) -> Value {
    json!({"alg": "ES256", "typ": "JWT", "kid": key.name})
}

#[tokio::test]
async fn a_good_token_is_its_user_with_the_prefix() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::new(&[&key]).await;
    let oidc = Oidc::start(issuer.settings()).unwrap();
    let identity = oidc.identify(&key.sign(&header(&key), &issuer.claims())).await;
    assert_eq!(identity, Ok(Identity::new("oidc:alice", Via::Oidc)));
    // Without a name, by the only key there is; with several audiences, for one of them.
    let claims = issuer.claims_but(&json!({"aud": ["other", "codeexec"], "nbf": get_current_timestamp()}));
    let token = key.sign(&json!({"alg": "ES256"}), &claims);
    assert!(oidc.identify(&token).await.is_ok());
}

#[tokio::test]
async fn whatever_is_wrong_with_the_claims_is_refused() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::new(&[&key]).await;
    let oidc = Oidc::start(issuer.settings()).unwrap();
    let now = get_current_timestamp();
    for (changes, reason) in [
        (json!({"exp": now - 31}), "expired"),
        (json!({"exp": null}), "lacks"),
        (json!({"exp": "never"}), "lacks"),
        (json!({"nbf": now + 60}), "not valid yet"),
        (json!({"iss": "https://login.example.com"}), "another issuer"),
        (json!({"iss": null}), "lacks"),
        (json!({"aud": "other"}), "another audience"),
        (json!({"aud": []}), "another audience"),
        (json!({"aud": null}), "lacks"),
        (json!({"sub": null}), "names its user"),
        (json!({"sub": ""}), "names its user"),
        (json!({"sub": 7}), "names its user"),
        (json!({"sub": "a\nb"}), "a user can have"),
    ] {
        let token = key.sign(&header(&key), &issuer.claims_but(&changes));
        let refusal = oidc.identify(&token).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{changes}: {refusal:?}");
        assert!(refusal.to_string().contains(reason), "{changes}: {refusal}");
    }
    // Clocks differ a little.
    let token = key.sign(&header(&key), &issuer.claims_but(&json!({"exp": now - 10})));
    assert!(oidc.identify(&token).await.is_ok());
}

#[tokio::test]
async fn a_token_can_not_choose_how_it_is_verified() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::new(&[&key]).await;
    let oidc = Oidc::start(issuer.settings()).unwrap();
    let good = key.sign(&header(&key), &issuer.claims());
    assert!(oidc.identify(&good).await.is_ok());

    let unsigned = |algorithm: &str| {
        let header = json!({"alg": algorithm, "kid": "k1"});
        format!("{}.{}", b64(header.to_string()), b64(issuer.claims().to_string()))
    };
    // The public key taken for a secret.
    let public = key.pair.public_key().as_ref();
    let hmac = ring::hmac::sign(
        &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public),
        unsigned("HS256").as_bytes(),
    );
    let (message, signature) = good.rsplit_once('.').unwrap();
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[7] ^= 1;
    let other = IssuerKey::new("k1");
    for forged in [
        format!("{}.", unsigned("none")),
        format!("{}.", unsigned("None")),
        format!("{}.{}", unsigned("HS256"), b64(hmac)),
        // The algorithm of another kind of key, and one that is not accepted.
        format!("{}.{signature}", unsigned("RS256")),
        format!("{}.{signature}", unsigned("ES384")),
        format!("{}.{signature}", unsigned("EdDSA")),
        format!("{message}."),
        format!("{message}.{}", b64(&flipped)),
        format!("{message}.{signature}A"),
        format!("{message}.{}", b64([0; 64])),
        // Another claim under the same signature, and another's key under the same name.
        format!("{}.{signature}", unsigned("ES256")),
        other.sign(&header(&other), &issuer.claims()),
        "a.b.c".to_owned(),
        "..".to_owned(),
        "x".to_owned(),
    ] {
        let refusal = oidc.identify(&forged).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{forged}: {refusal:?}");
    }
}

#[tokio::test]
async fn symmetric_keys_and_keys_for_encryption_verify_nothing() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::new(&[&key]).await;
    let mut for_encryption = key.public();
    for_encryption["use"] = json!("enc");
    let symmetric = json!({"kty": "oct", "kid": "k1", "k": b64("secret"), "alg": "HS256"});
    *issuer.keys.lock().unwrap() = vec![for_encryption, symmetric, json!({"kty": "new"}), json!(7)];
    let oidc = Oidc::start(issuer.settings()).unwrap();
    let token = key.sign(&header(&key), &issuer.claims());
    assert_eq!(oidc.identify(&token).await, Err(Refusal::Unavailable));
}

#[tokio::test]
async fn a_key_that_is_not_there_is_fetched_once_in_a_while_and_not_for_each_token() {
    let (old, new) = (IssuerKey::new("k1"), IssuerKey::new("k2"));
    let issuer = Issuer::new(&[&old]).await;
    let oidc = Oidc::start(issuer.settings()).unwrap();
    let (of_old, of_new) = (
        old.sign(&header(&old), &issuer.claims()),
        new.sign(&header(&new), &issuer.claims()),
    );
    assert!(oidc.identify(&of_old).await.is_ok());
    issuer.keys.lock().unwrap().push(new.public());
    for _ in 0..20 {
        let refusal = oidc.identify(&of_new).await.unwrap_err();
        assert!(refusal.to_string().contains("no such key"), "{refusal}");
    }
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1);
    // As if the pause were over.
    oidc.jwks.forget_attempts().await;
    assert!(oidc.identify(&of_new).await.is_ok());
    assert!(oidc.identify(&of_old).await.is_ok());
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_issuer_that_is_away_or_another_one_refuses_nobody_for_good() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::new(&[&key]).await;
    let token = key.sign(&header(&key), &issuer.claims());
    let away = OidcSettings {
        issuer: "http://127.0.0.1:1".parse().unwrap(),
        ..issuer.settings()
    };
    assert_eq!(
        Oidc::start(away).unwrap().identify(&token).await,
        Err(Refusal::Unavailable)
    );
    // It describes itself under another name than the one it was asked by.
    let other = OidcSettings {
        issuer: issuer.url.replace("127.0.0.1", "localhost").parse().unwrap(),
        ..issuer.settings()
    };
    assert_eq!(
        Oidc::start(other).unwrap().identify(&token).await,
        Err(Refusal::Unavailable)
    );
}

#[tokio::test]
async fn an_address_that_nobody_verified_is_no_user() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::new(&[&key]).await;
    let settings = OidcSettings {
        user_claim: "email".to_owned(),
        user_prefix: String::new(),
        ..issuer.settings()
    };
    let oidc = Oidc::start(settings).unwrap();
    for (verified, is_taken) in [(json!(true), true), (json!(false), false), (json!("true"), false)] {
        let claims = issuer.claims_but(&json!({"email": "alice@example.com", "email_verified": verified}));
        let identity = oidc.identify(&key.sign(&header(&key), &claims)).await;
        assert_eq!(identity.is_ok(), is_taken, "{verified}");
    }
    let claims = issuer.claims_but(&json!({"email": "system:admin"}));
    assert!(oidc.identify(&key.sign(&header(&key), &claims)).await.is_err());
}

#[tokio::test]
async fn whose_token_it_says_it_is_can_be_told_without_verifying_it() {
    let key = IssuerKey::new("k1");
    let issuer = Issuer::new(&[&key]).await;
    let oidc = Oidc::start(issuer.settings()).unwrap();
    assert!(oidc.claims_to_be_issuer_of(&key.sign(&header(&key), &issuer.claims())));
    let clusters = issuer.claims_but(&json!({"iss": "https://kubernetes.default.svc"}));
    assert!(!oidc.claims_to_be_issuer_of(&key.sign(&header(&key), &clusters)));
    assert!(!oidc.claims_to_be_issuer_of("opaque"));
}
