//! Who is let in on an installed chart: keys, the cluster's own tokens, and nobody by a forged header.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use codeexec_e2e::tools::kubectl;
use codeexec_e2e::{Answer, Cluster, Program, cluster::record_of, unique, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

/// How long a change of the keys' Secret may take to count. It comes over a watch, to two replicas.
const SOON: Duration = Duration::from_secs(20);

fn hello() -> Program {
    Program::new("print('hello')")
}

async fn post_as(cluster: &Cluster, token: &str) -> Result<Answer> {
    let header = format!("Bearer {token}");
    cluster.post_with(&[("authorization", &header)], &hello()).await
}

/// The user that the record of an answer carries.
async fn user_of(cluster: &Cluster, answer: Answer) -> Result<String> {
    let body = answer.ok()?;
    let record = cluster.executions().get(record_of(&body)?).await?;
    Ok(record.spec.user)
}

fn is_refused(answer: &Answer, status: u16, code: &str) -> Result<()> {
    ensure!(
        answer.status == status && answer.body["code"] == code,
        "{answer:?} is not {status} {code}"
    );
    Ok(())
}

/// Waits until every replica answers a token so, several times in a row: the Service chooses one at random.
async fn until_status(cluster: &Cluster, token: &str, status: u16) -> Result<()> {
    wait_until(&format!("the answer is {status}"), SOON, async || {
        for _ in 0..6 {
            if post_as(cluster, token).await?.status != status {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}

/// A key as somebody makes it with the image that is installed, and the hash to store.
async fn new_key(cluster: &Cluster, user: &str) -> Result<(String, Value)> {
    let deployment = format!("deployment/{}-api", cluster.release);
    let arguments = [
        "-n",
        &cluster.namespace,
        "exec",
        &deployment,
        "--",
        "/codeexec-api",
        "new-key",
        user,
    ];
    let ran = codeexec_e2e::tools::run("kubectl", &arguments, "").await?;
    ensure!(ran.success, "{}", ran.stderr);
    let hash = ran
        .stderr
        .split('"')
        .find(|word| word.starts_with("sha256:"))
        .with_context(|| ran.stderr.clone())?;
    Ok((ran.stdout.trim().to_owned(), json!(hash)))
}

/// Sets the entry of a user in the Secret, or takes it out.
async fn set_entry(cluster: &Cluster, user: &str, hashes: &[&Value]) -> Result<()> {
    let patch = match hashes {
        [] => json!({"data": {user: null}}),
        hashes => json!({"stringData": {user: json!({"hashes": hashes}).to_string()}}),
    };
    let secret = format!("{}-api-keys", cluster.release);
    let patch = patch.to_string();
    kubectl(&["-n", &cluster.namespace, "patch", "secret", &secret, "-p", &patch]).await?;
    Ok(())
}

#[tokio::test]
async fn a_key_counts_as_soon_as_its_hash_is_stored_and_no_longer() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let user = unique("key");
    let (old, old_hash) = new_key(&cluster, &user).await?;
    let (new, new_hash) = new_key(&cluster, &user).await?;
    is_refused(&post_as(&cluster, &old).await?, 401, "unauthenticated")?;
    set_entry(&cluster, &user, &[&old_hash]).await?;
    until_status(&cluster, &old, 200).await?;
    assert_eq!(user_of(&cluster, post_as(&cluster, &old).await?).await?, user);
    // Both, while callers change over.
    set_entry(&cluster, &user, &[&old_hash, &new_hash]).await?;
    until_status(&cluster, &new, 200).await?;
    assert_eq!(post_as(&cluster, &old).await?.status, 200);
    set_entry(&cluster, &user, &[&new_hash]).await?;
    until_status(&cluster, &old, 401).await?;
    assert_eq!(user_of(&cluster, post_as(&cluster, &new).await?).await?, user);
    set_entry(&cluster, &user, &[]).await?;
    until_status(&cluster, &new, 401).await
}

/// A ServiceAccount of this test, with or without the right to run programs.
async fn account(cluster: &Cluster, may_run: bool) -> Result<String> {
    let name = unique("account");
    let namespace = cluster.namespace.as_str();
    kubectl(&["-n", namespace, "create", "serviceaccount", &name]).await?;
    if may_run {
        let executions = cluster.executions_namespace.as_str();
        let resource = "--resource=codeexecutions.codeexec.dev";
        kubectl(&[
            "-n",
            executions,
            "create",
            "role",
            &name,
            "--verb=create",
            resource,
        ])
        .await?;
        let role = format!("--role={name}");
        let whom = format!("--serviceaccount={namespace}:{name}");
        kubectl(&["-n", executions, "create", "rolebinding", &name, &role, &whom]).await?;
    }
    Ok(name)
}

async fn token(cluster: &Cluster, account: &str, audience: Option<&str>) -> Result<String> {
    let mut arguments = vec!["-n", &cluster.namespace, "create", "token", account];
    let audience = audience.map(|audience| format!("--audience={audience}"));
    arguments.extend(audience.as_deref());
    Ok(kubectl(&arguments).await?.trim().to_owned())
}

#[tokio::test]
async fn a_token_of_the_cluster_is_its_account_if_it_is_for_us_and_may_run_programs() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (may, may_not) = (account(&cluster, true).await?, account(&cluster, false).await?);
    let answer = post_as(&cluster, &token(&cluster, &may, Some("codeexec")).await?).await?;
    let name = format!("system:serviceaccount:{}:{may}", cluster.namespace);
    assert_eq!(user_of(&cluster, answer).await?, name);
    // What would open the Kubernetes API opens nothing here.
    let answer = post_as(&cluster, &token(&cluster, &may, None).await?).await?;
    is_refused(&answer, 401, "unauthenticated")?;
    let answer = post_as(&cluster, &token(&cluster, &may_not, Some("codeexec")).await?).await?;
    is_refused(&answer, 403, "forbidden")?;
    for name in [&may, &may_not] {
        kubectl(&["-n", &cluster.namespace, "delete", "serviceaccount", name]).await?;
    }
    kubectl(&[
        "-n",
        &cluster.executions_namespace,
        "delete",
        "rolebinding,role",
        &may,
    ])
    .await?;
    Ok(())
}

#[tokio::test]
async fn nobody_gets_in_by_a_forged_header() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let user = unique("forged");
    let named = ("x-codeexec-user", user.as_str());
    for headers in [
        &[][..],
        &[named],
        &[named, ("x-forwarded-for", "192.0.2.1")],
        &[
            named,
            ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
            ("forwarded", "for=192.0.2.1"),
        ],
        &[named, ("x-real-ip", "192.0.2.1"), ("x-forwarded-user", "admin")],
        &[("authorization", "Bearer")],
        &[("authorization", "Basic YWRtaW46YWRtaW4=")],
        &[(
            "authorization",
            "Bearer cex_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        )],
        // {"alg":"none"}, {"sub":"admin"}
        &[(
            "authorization",
            "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
        )],
    ] {
        let answer = cluster.post_with(headers, &hello()).await?;
        is_refused(&answer, 401, "unauthenticated").with_context(|| format!("{headers:?}"))?;
    }
    let selector = format!("--field-selector=spec.user={user}");
    let executions = cluster.executions_namespace.as_str();
    let made = kubectl(&["-n", executions, "get", "codeexecutions", "-o", "name", &selector]).await?;
    assert_eq!(made, "");
    // Who is up is everybody's to know.
    assert_eq!(cluster.get("/api/execute").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn anothers_execution_does_not_exist_but_for_an_administrator() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let user = unique("key");
    let (key, hash) = new_key(&cluster, &user).await?;
    set_entry(&cluster, &user, &[&hash]).await?;
    until_status(&cluster, &key, 200).await?;
    let own = post_as(&cluster, &key).await?.ok()?;
    let others = cluster.run(&hello()).await?;
    let header = format!("Bearer {key}");
    let as_user = async |method: Method, path: &str| {
        let headers = [("authorization", header.as_str())];
        cluster.send(method, path, &headers, None).await
    };
    let (own, others) = (record_of(&own)?, record_of(&others)?);
    let path = format!("/api/executions/{others}");
    is_refused(&as_user(Method::GET, &path).await?, 404, "not_found")?;
    is_refused(&as_user(Method::DELETE, &path).await?, 404, "not_found")?;
    // The first key is an administrator's.
    assert_eq!(cluster.get(&path).await?.status, 200);
    let path = format!("/api/executions/{own}");
    assert_eq!(as_user(Method::GET, &path).await?.status, 200);
    assert_eq!(cluster.get(&path).await?.status, 200);

    let list = as_user(Method::GET, "/api/executions?limit=500").await?.ok()?;
    let items = list["items"].as_array().context("no items")?;
    ensure!(items.iter().all(|item| item["user"] == user.as_str()), "{list}");
    ensure!(items.iter().any(|item| item["id"] == own), "{list}");
    let admins = as_user(Method::GET, "/api/executions?user=admin").await?;
    is_refused(&admins, 403, "forbidden")?;
    set_entry(&cluster, &user, &[]).await
}
