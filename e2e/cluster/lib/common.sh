# Paths, addresses and small helpers that every other part uses.
# shellcheck shell=bash disable=SC2034

readonly CLUSTER=codeexec-e2e
readonly STATE=${CODEEXEC_CLUSTER_STATE:-/var/lib/$CLUSTER}
readonly LOGS=$STATE/log
readonly PKI=$STATE/pki
readonly CONFIG=$STATE/config
readonly ADMIN_KUBECONFIG=$STATE/kubeconfig
readonly CONTAINERD_SOCKET=$STATE/containerd.sock

readonly NETNS=$CLUSTER
# Interface names are limited to 15 characters.
readonly HOST_LINK=cx-e2e-host
readonly NODE_LINK=cx-e2e-node
readonly HOST_IP=10.77.0.1
readonly NODE_IP=10.77.0.2
readonly SERVICE_RANGE=10.96.0.0/16
readonly KUBERNETES_SERVICE_IP=10.96.0.1
readonly POD_RANGE=10.78.0.0/22

# In the order they are started.
readonly COMPONENTS=(etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy)

say() { echo "cluster: $*" >&2; }

die() {
  say "$*"
  exit 1
}

show_log() {
  local component=$1
  [[ -f $LOGS/$component.log ]] || return 0
  say "the end of $component's log:"
  tail -n 25 "$LOGS/$component.log" | cut -c1-400 >&2
}

# wait_until SECONDS COMPONENT WHAT COMMAND...
# The component is the one to blame when the time is up. A component that has died is to blame at once, be it
# this one or another: the API server, for one, waits patiently for an etcd that is gone.
wait_until() {
  local seconds=$1 component=$2 what=$3
  shift 3
  local deadline=$((SECONDS + seconds)) dead
  until "$@" >/dev/null 2>&1; do
    if dead=$(first_dead); then
      show_log "$dead"
      die "$dead ended while waiting for: $what"
    fi
    if ((SECONDS >= deadline)); then
      show_log "$component"
      die "not within $seconds s: $what"
    fi
    sleep 0.1
  done
}

# The first component that was started and isn't running.
first_dead() {
  local component
  for component in "${COMPONENTS[@]}"; do
    if [[ -f $STATE/$component.pid ]] && ! is_running "$component"; then
      echo "$component"
      return
    fi
  done
  return 1
}

# Not `ip netns exec`: that mounts a fresh /sys, in which the kubelet finds no cgroups.
in_netns() { nsenter --net="/run/netns/$NETNS" "$@"; }

admin_kubectl() { "$BIN/kubectl" --kubeconfig="$ADMIN_KUBECONFIG" --request-timeout=5s "$@"; }
