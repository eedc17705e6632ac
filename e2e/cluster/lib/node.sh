# shellcheck shell=bash

write_containerd_config() {
  # User namespaces need to pass through these folders as somebody else than root.
  (umask 066 && mkdir "$STATE/containerd" "$STATE/containerd/root" "$STATE/containerd/state")
  cat >"$CONFIG/containerd.toml" <<TOML
version = 4
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
# One makes folders in /opt, the other a socket in /run; neither is needed.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[plugins."io.containerd.server.v1.grpc"]
address = "$CONTAINERD_SOCKET"

[plugins."io.containerd.server.v1.ttrpc"]
address = "$CONTAINERD_SOCKET.ttrpc"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "codeexec.local/pause:1"

[plugins."io.containerd.cri.v1.runtime"]
# Without CAP_SYS_RESOURCE (containers, CI machines) no OOM score below one's own can be set.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["$BIN"]
conf_dir = "$CONFIG/cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "$BIN/runc"
Root = "$STATE/runc"
SystemdCgroup = false
TOML
}

start_containerd() { start containerd --config="$CONFIG/containerd.toml"; }

containerd_is_ready() { ctr version; }

write_kubelet_config() {
  cat >"$CONFIG/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
podLogsDir: $STATE/pod-logs
volumePluginDir: $STATE/volume-plugins
address: $NODE_IP
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $PKI/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet-server.crt
tlsPrivateKeyFile: $PKI/kubelet-server.key
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /$CLUSTER
cgroupsPerQOS: true
# Kubelet and containerd are not below the Pods' cgroup here, so there is nothing to hold in place.
enforceNodeAllocatable: []
oomScoreAdj: 0
maxPods: 250
podPidsLimit: 256
registryPullQPS: 0
eventRecordQPS: 0
serializeImagePulls: false
imageGCHighThresholdPercent: 100
# The disk is shared with whatever else the machine does: the percentages usual for a node would evict Pods.
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%, imagefs.inodesFree: 1%}
# There is no DNS server in the cluster, and the host's would be out of reach.
resolvConf: ""
YAML
}

start_kubelet() {
  start kubelet \
    --config="$CONFIG/kubelet.yaml" \
    --kubeconfig="$PKI/kubelet.kubeconfig" \
    --root-dir="$STATE/kubelet" \
    --hostname-override="$CLUSTER" \
    --node-ip="$NODE_IP"
}

kubelet_is_ready() { in_netns curl --silent --fail --noproxy '*' --max-time 2 http://127.0.0.1:10248/healthz; }

# The taint goes a moment after the node is Ready; until then no Pod is scheduled.
node_is_ready() {
  [[ $(admin_kubectl get node "$CLUSTER" -o \
    'jsonpath={.status.conditions[?(@.type=="Ready")].status}{.spec.taints}') == True ]]
}

write_kube-proxy_config() {
  cat >"$CONFIG/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $PKI/kube-proxy.kubeconfig}
hostnameOverride: $CLUSTER
clusterCIDR: $POD_RANGE
# These are the machine's and not the network namespace's: leave them alone.
conntrack: {maxPerCore: 0, min: 0}
oomScoreAdj: 0
YAML
}

start_kube-proxy() { start kube-proxy --config="$CONFIG/kube-proxy.yaml"; }

# From the host, as the tests will: link, routes, kube-proxy and certificate in one.
service_network_is_ready() {
  curl --silent --fail --noproxy '*' --max-time 2 --cacert "$PKI/ca.crt" \
    --cert "$PKI/admin.crt" --key "$PKI/admin.key" "https://$KUBERNETES_SERVICE_IP/readyz"
}

ctr() {
  # It would say in each run that cgroup v1 is on its way out.
  CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 \
    "$BIN/ctr" --address="$CONTAINERD_SOCKET" --namespace=k8s.io "$@"
}

# The import unpacks too, so that the first Pod doesn't have to. Prints the names the archive gave.
import_image() {
  ctr images import "$1" | awk '$2 == "saved" { print $1 }'
}

image_digest() { ctr images ls "name==$1" | awk 'NR == 2 { print $3 }'; }
