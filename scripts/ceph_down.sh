#!/usr/bin/env bash
# ceph_down.sh DIR - stop the cluster that ceph_up.sh started in DIR, and remove DIR. Its data was only for tests.
set -u

dir=$(cd "${1:?usage: ceph_down.sh DIR}" 2>/dev/null && pwd) || exit 0
[ -e "$dir/ceph.conf" ] || { echo "ceph: no cluster in $dir" >&2; exit 0; }

# A pid may have been reused: only a process that was started with this cluster's configuration is ours.
ours() { tr '\0' ' ' < "/proc/$1/cmdline" 2>/dev/null | grep -qF -- "$dir/ceph.conf"; }

for daemon in client.rgw.a osd.0 mon.a; do
  pid=$(cat "$dir/run/$daemon.pid" 2>/dev/null) || continue
  [ -n "$pid" ] && ours "$pid" || continue
  kill -KILL "$pid" 2>/dev/null
  for _ in $(seq 100); do
    ours "$pid" || break
    sleep 0.05
  done
done
rm -rf "$dir"
