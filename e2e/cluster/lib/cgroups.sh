# Every process of the cluster lives below one cgroup of its own, so that cleaning up finds all of them,
# orphaned shims and Pods of a run killed halfway included, and nothing else.
# shellcheck shell=bash

readonly CGROUPS=/sys/fs/cgroup

is_cgroup_v2() { [[ -f $CGROUPS/cgroup.controllers ]]; }

# On cgroup v1 the components are moved in the pids hierarchy only: that is enough to find them, and
# leaves them under whatever memory limit the caller lives in.
tracking_hierarchy() {
  if is_cgroup_v2; then echo "$CGROUPS"; else echo "$CGROUPS/pids"; fi
}

hierarchies() {
  if is_cgroup_v2; then
    echo "$CGROUPS"
    return
  fi
  local folder
  for folder in "$CGROUPS"/*/; do
    [[ -f $folder/cgroup.procs && ! -L ${folder%/} ]] && echo "${folder%/}"
  done
}

# The kubelet wants its cgroup root to exist in every hierarchy.
create_cgroups() {
  local hierarchy file
  while read -r hierarchy; do
    mkdir -p "$hierarchy/$CLUSTER"
    # A new cpuset has no CPUs and no memory nodes, and takes no process until it does.
    for file in cpuset.cpus cpuset.mems; do
      if ! is_cgroup_v2 && [[ -f $hierarchy/$file ]]; then
        cat "$hierarchy/$file" >"$hierarchy/$CLUSTER/$file"
      fi
    done
  done < <(hierarchies)
}

component_cgroup() { echo "$(tracking_hierarchy)/$CLUSTER/components/$1"; }

# A process id alone proves nothing: after a crash another process may have got it.
is_running() {
  local component=$1 pid
  pid=$(cat "$STATE/$component.pid" 2>/dev/null) || return 1
  grep -qx "$pid" "$(component_cgroup "$component")/cgroup.procs" 2>/dev/null
}

# start COMPONENT COMMAND...
# Nothing of the caller's environment goes in: a proxy variable would change what an image pull does.
start() {
  local component=$1 cgroup
  shift
  cgroup=$(component_cgroup "$component")
  mkdir -p "$cgroup"
  (
    exec {LOCK}>&- # or the lock would be held for as long as the component lives
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    echo "$BASHPID" >"$STATE/$component.pid"
    exec setsid nsenter --net="/run/netns/$NETNS" \
      env -i PATH="$BIN:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME="$STATE" \
      "$BIN/$component" "$@" </dev/null >>"$LOGS/$component.log" 2>&1
  ) &
  disown
}

# stop COMPONENT: the component alone; containerd's Pods, for one, go on running.
stop() {
  local component=$1 pid deadline=$((SECONDS + 5))
  is_running "$component" || return 0
  pid=$(cat "$STATE/$component.pid")
  kill "$pid"
  while is_running "$component"; do
    ((SECONDS < deadline)) || kill -KILL "$pid" 2>/dev/null || true
    sleep 0.05
  done
  rm -f "$STATE/$component.pid"
}

cluster_processes() {
  find "$(tracking_hierarchy)/$CLUSTER" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

kill_processes() {
  local deadline=$((SECONDS + 20)) pids
  # In rounds, since a process may fork while the list is read.
  while pids=$(cluster_processes) && [[ -n $pids ]]; do
    # shellcheck disable=SC2086 # one word per process
    kill -KILL $pids 2>/dev/null || true
    ((SECONDS < deadline)) || die "these processes can't be killed: ${pids//$'\n'/ }"
    sleep 0.05
  done
}

remove_cgroups() {
  local hierarchy deadline=$((SECONDS + 10))
  while read -r hierarchy; do
    while [[ -d $hierarchy/$CLUSTER ]]; do
      # A cgroup stays busy for a moment after its last process has gone.
      find "$hierarchy/$CLUSTER" -depth -type d -exec rmdir {} + 2>/dev/null || true
      ((SECONDS < deadline)) || die "can't remove $hierarchy/$CLUSTER"
      sleep 0.02
    done
  done < <(hierarchies)
}
