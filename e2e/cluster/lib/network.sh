# The cluster's network: a namespace of its own, and one link to the host.
#
#   host                          namespace
#   10.77.0.1 ───── veth ───── 10.77.0.2 (node) ─── 10.78.0.x Pods
#   routes to Services and Pods
#
# There is no default route inside: nothing leaves, and what tries fails at once instead of hanging.
# shellcheck shell=bash

create_network() {
  ip netns add "$NETNS"
  ip link add "$HOST_LINK" type veth peer name "$NODE_LINK" netns "$NETNS"
  ip address add "$HOST_IP/30" dev "$HOST_LINK"
  ip link set "$HOST_LINK" up

  ip -n "$NETNS" link set lo up
  ip -n "$NETNS" address add "$NODE_IP/30" dev "$NODE_LINK"
  ip -n "$NETNS" link set "$NODE_LINK" up
  # kube-proxy rewrites the destination of what the node itself sends to a Service, but the kernel looks
  # for a route before that.
  ip -n "$NETNS" route add "$SERVICE_RANGE" dev "$NODE_LINK" src "$NODE_IP"
  in_netns sysctl -qw net.ipv4.ip_forward=1

  ip route add "$SERVICE_RANGE" via "$NODE_IP" dev "$HOST_LINK"
  ip route add "$POD_RANGE" via "$NODE_IP" dev "$HOST_LINK"
}

remove_network() {
  # Takes its routes and the other end with it.
  ip link delete "$HOST_LINK" 2>/dev/null || true
  ip netns delete "$NETNS" 2>/dev/null || true
  # Left behind when the kill came between creating the file and mounting on it.
  rm -f "/run/netns/$NETNS"
  # `ip netns add` made this a mount; with another namespace in it, it isn't ours to remove.
  if rmdir /run/netns 2>/dev/null || [[ -z $(ls -A /run/netns 2>/dev/null) ]]; then
    umount /run/netns 2>/dev/null || true
    rmdir /run/netns 2>/dev/null || true
  fi
}

# ptp and not bridge: it routes between Pods of the same node, where a bridge would let the answers from a
# Service's Pod pass around the address translation unless the kernel has br_netfilter.
write_cni_config() {
  mkdir -p "$CONFIG/cni"
  cat >"$CONFIG/cni/10-pods.conflist" <<JSON
{
  "cniVersion": "1.0.0",
  "name": "$CLUSTER",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "$STATE/cni",
        "ranges": [[{ "subnet": "$POD_RANGE" }]],
        "routes": [{ "dst": "0.0.0.0/0" }]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
JSON
}
