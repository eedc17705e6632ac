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
  local mount deadline=$((SECONDS + 20))
  # Deepest first. A mount stays busy until the kernel has reaped the last process that had it.
  while mount=$(mounts_below_state | head -1) && [[ -n $mount ]]; do
    umount "$mount" 2>/dev/null || sleep 0.05
    ((SECONDS < deadline)) || umount --lazy "$mount"
  done
}

mounts_below_state() {
  awk -v state="$STATE/" 'index($5, state) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

# These folders are fixed in the programs and may belong to another container runtime as well.
remove_strays() {
  local link
  for link in /var/log/containers/*; do
    if [[ -L $link && $(readlink "$link") == "$STATE/"* ]]; then rm -f "$link"; fi
  done
  rm -f "/var/lib/cni/results/$CLUSTER-"*
  rmdir -p /var/log/containers /var/lib/cni/results 2>/dev/null || true
}

keep_logs() {
  local target=$1
  [[ -d $LOGS ]] || return 0
  mkdir -p "$target"
  cp -r "$LOGS/." "$target/"
  if [[ -d $STATE/pod-logs ]]; then cp -r "$STATE/pod-logs" "$target/"; fi
}
