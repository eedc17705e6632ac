//! Where the benchmark makes its own Pods: beside the executions only the operator may make any.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec, Secret, ServiceAccount};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::cluster::PATIENCE;
use crate::{Cluster, wait_until};

const NAME: &str = "codeexec-bench";

/// A namespace under the same Pod security standard as that of the executions.
pub struct BenchNamespace {
    client: Client,
    attach: Client,
}

impl BenchNamespace {
    /// Measures with such a namespace, which is removed again however that ends.
    ///
    /// # Errors
    /// When Kubernetes refuses it, an older one does not go away, or `measure` fails.
    pub async fn with<T>(cluster: &Cluster, measure: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let namespace = Self::make(cluster).await?;
        let measured = measure(&namespace).await;
        let removed = namespace.remove().await;
        let measured = measured?;
        removed.map(|()| measured)
    }

    /// Makes it anew, without what an interrupted run has left in it.
    async fn make(cluster: &Cluster) -> Result<Self> {
        let own = Self {
            client: cluster.client(),
            attach: Client::try_default().await?,
        };
        let namespaces = own.namespaces();
        wait_until("the namespace of an earlier run is gone", PATIENCE, async || {
            let Some(earlier) = namespaces.get_opt(NAME).await? else {
                return Ok(Some(()));
            };
            if earlier.metadata.deletion_timestamp.is_none() {
                namespaces.delete(NAME, &DeleteParams::default()).await?;
            }
            Ok(None)
        })
        .await?;
        let labels = [
            ("pod-security.kubernetes.io/enforce", "restricted"),
            ("app.kubernetes.io/name", NAME),
        ];
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some(BTreeMap::from(
                    labels.map(|(name, value)| (name.to_owned(), value.to_owned())),
                )),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        namespaces.create(&PostParams::default(), &namespace).await?;
        Ok(own)
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    /// The Pods in it.
    #[must_use]
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAME)
    }

    /// The same over a connection that nothing else uses: tries to attach, many a second, break other calls.
    #[must_use]
    pub fn attachable_pods(&self) -> Api<Pod> {
        Api::namespaced(self.attach.clone(), NAME)
    }

    /// Brings along what a Pod from beside the executions names: its service account and its pull secrets.
    ///
    /// # Errors
    /// When Kubernetes refuses it.
    pub async fn admit(&self, cluster: &Cluster, spec: &PodSpec) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAME);
        let name = spec.service_account_name.as_deref().unwrap_or("default");
        let account = ServiceAccount {
            metadata: named(name),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        };
        unless_it_is_there(accounts.create(&PostParams::default(), &account).await)
            .with_context(|| format!("service account {name}"))?;

        let theirs: Api<Secret> = cluster.beside_executions();
        let ours: Api<Secret> = Api::namespaced(self.client.clone(), NAME);
        for reference in spec.image_pull_secrets.iter().flatten() {
            // A secret that does not exist is no error to the kubelet either.
            let Some(secret) = theirs.get_opt(&reference.name).await? else {
                continue;
            };
            let copy = Secret {
                metadata: named(&reference.name),
                ..secret
            };
            unless_it_is_there(ours.create(&PostParams::default(), &copy).await)
                .with_context(|| format!("pull secret {}", reference.name))?;
        }
        Ok(())
    }

    async fn remove(self) -> Result<()> {
        self.namespaces().delete(NAME, &DeleteParams::default()).await?;
        Ok(())
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Every namespace gets a service account `default` by itself.
fn unless_it_is_there<T>(created: kube::Result<T>) -> kube::Result<()> {
    match created {
        Err(kube::Error::Api(error)) if error.code == 409 => Ok(()),
        other => other.map(drop),
    }
}
