//! Cuts the operator off from the Kubernetes API: packets to it vanish, as in a network that fails.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;

use crate::operator::{environment_of, lease, pods, process_in};
use crate::tools::run;
use crate::{Cluster, wait_until};

/// All processes of the operator, cut off.
pub struct Outage {
    /// Their network namespaces, which stay where a process ends meanwhile and is started again.
    networks: Vec<File>,
}

impl Outage {
    /// Cuts off every process of the operator; nothing where the cluster runs elsewhere.
    ///
    /// # Errors
    /// When `nsenter` or `nft` refuses.
    pub async fn begin(cluster: &Cluster) -> Result<Option<Self>> {
        let mut outage = Self { networks: vec![] };
        for pod in pods(cluster).await? {
            let Some(pid) = process_in(&pod.name_any(), "codeexec-operator") else {
                return Ok(None);
            };
            let address = environment_of(pid, "KUBERNETES_SERVICE_HOST")
                .context("the operator has no address of the Kubernetes API")?;
            outage.networks.push(File::open(format!("/proc/{pid}/ns/net"))?);
            // Probes come from elsewhere, and are still answered.
            let rules = format!(
                "table inet outage {{
                     chain output {{ type filter hook output priority 0; ip daddr {address} drop; }}
                     chain input {{ type filter hook input priority 0; ip saddr {address} drop; }}
                 }}
                "
            );
            outage.nft(outage.networks.len() - 1, &rules).await?;
        }
        Ok(Some(outage))
    }

    /// Waits until nobody has renewed the Lease for so long.
    ///
    /// # Errors
    /// When somebody renews it.
    pub async fn lasts(&self, cluster: &Cluster, long: Duration) -> Result<()> {
        let what = format!("nobody has renewed the Lease for {} s", long.as_secs());
        wait_until(&what, long * 2, async || {
            let renewed = lease(cluster).await?.renew_time;
            let renewed = renewed.context("a Lease that nobody ever renewed")?.0;
            // One renewal may have been under way when the outage began.
            let since = jiff::Timestamp::now().duration_since(renewed);
            Ok((since.unsigned_abs() >= long).then_some(()))
        })
        .await
    }

    /// Lets packets through again.
    ///
    /// # Errors
    /// When `nsenter` or `nft` refuses.
    pub async fn end(self) -> Result<()> {
        for at in 0..self.networks.len() {
            self.nft(at, "delete table inet outage").await?;
        }
        Ok(())
    }

    async fn nft(&self, network: usize, rules: &str) -> Result<()> {
        let descriptor = self.networks[network].as_raw_fd();
        let network = format!("--net=/proc/{}/fd/{descriptor}", std::process::id());
        let ran = run("nsenter", &[&network, "nft", "-f", "-"], rules).await?;
        ensure!(ran.success, "{}", ran.stderr);
        Ok(())
    }
}
