# shellcheck shell=bash

# Also what a run killed at any moment left: nothing here relies on a record of what was started.
remove_everything() {
  kill_processes
  unmount_all
  remove_network
  remove_cgroups
  remove_strays
  rm -rf --one-file-system "$STATE"
}

unmount_all() {
  local mounts deadline=$((SECONDS + 20))
  # In rounds: a mount stays busy until the kernel has reaped the last process that had it.
  while mapfile -t mounts < <(mounts_below_state) && ((${#mounts[@]} > 0)); do
    umount "${mounts[@]}" 2>/dev/null || sleep 0.05
    if ((SECONDS >= deadline)); then umount --lazy "${mounts[@]}" 2>/dev/null || true; fi
  done
}

# The deepest first.
mounts_below_state() {
  awk -v state="$STATE/" 'index($5, state) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

# The programs have these paths built in, and another container runtime may use the same folders: what goes
# is only what points into our state folder or what our state folder names.
remove_strays() {
  local file socket=/var/lib/kubelet/device-plugins/kubelet.sock
  for file in /var/log/containers/*; do
    if [[ -L $file && $(readlink "$file") == "$STATE/"* ]]; then rm -f "$file"; fi
  done
  for file in /var/lib/cni/results/*; do
    if grep -qsF "$STATE/" "$file"; then rm -f "$file"; fi
  done
  find "$STATE/containerd/state" -name bootstrap.json -exec grep -oh '/run/containerd/s/[0-9a-f]*' {} + 2>/dev/null |
    xargs -r rm -f || true
  # A kubelet of the host's own would be listening in the host's network namespace, which is the one listed here.
  if [[ -S $socket ]] && ! grep -qF "$socket" /proc/net/unix; then rm -f "$socket"; fi
  rmdir -p --ignore-fail-on-non-empty /var/log/containers /var/lib/cni/results /run/containerd/s "${socket%/*}" 2>/dev/null || true
}

keep_logs() {
  local target=$1
  [[ -d $LOGS ]] || return 0
  mkdir -p "$target"
  cp -r "$LOGS/." "$target/"
  if [[ -d $STATE/pod-logs ]]; then cp -r "$STATE/pod-logs" "$target/"; fi
}
