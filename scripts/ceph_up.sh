#!/usr/bin/env bash
# ceph_up.sh DIR - start a Ceph object gateway of one node (monitor, OSD in memory, radosgw) on free ports of 127.0.0.1.
#
# The embedded S3 server of `make test` is an emulator; this is the real thing, for the same tests (`make test-s3-ceph`).
# Needs root: Ceph is unpacked once from the Debian archive this machine is set up for, and run through chroot.
# DIR/s3.env then holds LIFECYCLE_TEST_S3_ENDPOINT, LIFECYCLE_TEST_S3_ACCESS, LIFECYCLE_TEST_S3_SECRET and LIFECYCLE_TEST_S3_DAY (LC_DEBUG);
# the last line printed is the endpoint.
#
#   CEPH_SUITE   Debian suite to unpack: sid (default) or trixie
#   CEPH_ROOT    where it is unpacked and kept (default: ~/.cache/lifecycle-ceph-$CEPH_SUITE; about 700 MB)
#   LC_DEBUG     seconds that one lifecycle "day" lasts (default 0: real days); below 5 a pass over a bucket may not end in its time
set -euo pipefail

dir=${1:?usage: ceph_up.sh DIR}
suite=${CEPH_SUITE:-sid}
root=${CEPH_ROOT:-${HOME:-/root}/.cache/lifecycle-ceph-$suite}
access=${S3_ACCESS:-lifecycle-test}
secret=${S3_SECRET:-lifecycle-test-secret}
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { echo "ceph: $*" >&2; }
fail() {
  say "FAILED: $*"
  tail -n 15 "$dir"/log/*.log >&2 2>/dev/null || true
  "$scripts/ceph_down.sh" "$dir" || true
  exit 1
}

[ "$(id -u)" = 0 ] || { say "needs root (apt, chroot, unshare); run the embedded server's tests instead: make test"; exit 2; }
[ ! -e "$dir/ceph.conf" ] || { say "$dir already holds a cluster; stop it first: ceph_down.sh $dir"; exit 2; }

# --- Ceph itself, once -------------------------------------------------------------------------------------------
unpack() {
  if ! command -v mmdebstrap >/dev/null; then
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >&2
  fi
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | grep -v security | head -n 1)
  [ -n "$mirror" ] || { say "apt knows no package archive; run apt-get update"; exit 2; }
  say "unpacking Debian $suite with Ceph into $root (once)"
  rm -rf "$root"
  # Mirrors of sid may lag behind the validity date of its index; the signature is checked all the same.
  mmdebstrap --quiet --variant=minbase --mode=root \
    --include=ceph-mon,ceph-osd,radosgw,ceph-common \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
    "$suite" "$root" "$mirror" >&2
  touch "$root/.complete"
}
mkdir -p "$(dirname "$root")"
# Two test runs at once must not unpack over each other.
exec 9>"$root.lock"
flock 9
[ -e "$root/.complete" ] || unpack
flock -u 9
exec 9>&-

mkdir -p "$dir"/{log,run,mon.a,osd.0,rgw.a}
dir=$(cd "$dir" && pwd)
mkdir -p "$root$dir"

# Run a Ceph program inside the root. Its mounts belong to a private namespace and vanish with the process.
inside() {
  unshare -m --propagation private bash -c '
    set -e; root=$1 dir=$2; shift 2
    mount --rbind /proc "$root/proc"; mount --rbind /dev "$root/dev"; mount --bind "$dir" "$root$dir"
    exec chroot "$root" "$@"' inside "$root" "$dir" "$@"
}

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# A run of N ports on which nothing listens; sets `port`.
pick() {
  local base n
  for _ in $(seq 200); do
    base=$((20000 + RANDOM % 12000))
    for ((n = 0; n < $1; n++)); do taken $((base + n)) && continue 2; done
    port=$base
    return
  done
  fail "no free ports"
}
pick 60
mon=$port gateway=$((port + 2)) osd_low=$((port + 4)) osd_high=$((port + 59))
fsid=$(cat /proc/sys/kernel/random/uuid)
days="" ; [ "${LC_DEBUG:-0}" -gt 0 ] && days="rgw_lc_debug_interval = $LC_DEBUG"

# --- configuration -----------------------------------------------------------------------------------------------
cat > "$dir/ceph.conf" <<CONF
[global]
fsid = $fsid
mon_host = [v2:127.0.0.1:$mon/0,v1:127.0.0.1:$((mon + 1))/0]
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
ms_bind_ipv6 = false
ms_bind_port_min = $osd_low
ms_bind_port_max = $osd_high
# No keys between the daemons: everything listens on the loopback interface only and lives as long as a test run.
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = true
mon_warn_on_insecure_global_id_reclaim_allowed = false
# Without keys only crc links exist; radosgw would otherwise wait 300 s for a secure one.
ms_mon_client_mode = crc
ms_mon_service_mode = crc
ms_mon_cluster_mode = crc
ms_client_mode = crc
ms_service_mode = crc
ms_cluster_mode = crc
keyring = $dir/keyring
run_dir = $dir/run
admin_socket = $dir/run/\$name.asok
pid_file = $dir/run/\$name.pid
log_file = $dir/log/\$name.log
crash_dir = $dir/run/crash
# One node, one copy.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_crush_initial_weight = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
mon_data_avail_warn = 1
mon_data_avail_crit = 0
mon_osd_min_up_ratio = 0
# Decide quickly, log little, cache little.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
debug_ms = 0/0
debug_mon = 0/1
debug_osd = 0/1
debug_rgw = 0/0
debug_rgw_access = 0/0
osd_min_pg_log_entries = 100
osd_max_pg_log_entries = 300
osd_pg_log_dups_tracked = 300
osd_target_pg_log_entries_per_osd = 3000
[mon]
mon_data = $dir/mon.a
mon_initial_members = a
mon_cluster_log_file = $dir/log/cluster.log
[osd]
osd_data = $dir/osd.0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_op_num_shards = 2
osd_class_load_list = *
osd_class_default_list = *
[client.rgw.a]
rgw_data = $dir/rgw.a
rgw_frontends = beast endpoint=127.0.0.1:$gateway tcp_nodelay=1
rgw_lifecycle_work_time = 00:00-24:00
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_run_sync_thread = false
rgw_enable_static_website = false
$days
CONF
: > "$dir/keyring"
conf=(-c "$dir/ceph.conf")
setup="$dir/log/setup.log"
ulimit -n 65536 2>/dev/null || true

# --- daemons -----------------------------------------------------------------------------------------------------
inside monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon,v1:127.0.0.1:$((mon + 1))]" \
  "$dir/monmap" >>"$setup" 2>&1 || fail "monitor map"
inside ceph-mon "${conf[@]}" -i a --mkfs --monmap "$dir/monmap" >>"$setup" 2>&1 || fail "monitor store"
inside ceph-mon "${conf[@]}" -i a >>"$setup" 2>&1 || fail "monitor"

osd=$(cat /proc/sys/kernel/random/uuid)
inside timeout 60 ceph "${conf[@]}" --connect-timeout 30 osd new "$osd" >>"$setup" 2>&1 || fail "registering the OSD"
inside ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$osd" >>"$setup" 2>&1 || fail "OSD store"
inside ceph-osd "${conf[@]}" -i 0 >>"$setup" 2>&1 || fail "OSD"
for try in $(seq 100); do
  inside timeout 20 ceph "${conf[@]}" osd stat 2>/dev/null | grep -q '1 up' && break
  [ "$try" -lt 100 ] || fail "the OSD did not come up"
  sleep 0.2
done

# The first admin command also creates the zone and its pools.
inside timeout 120 radosgw-admin "${conf[@]}" user create --uid=lifecycle --display-name=lifecycle \
  --access-key="$access" --secret-key="$secret" >>"$setup" 2>&1 || fail "the S3 user"
for class in STANDARD_IA GLACIER; do
  inside radosgw-admin "${conf[@]}" zonegroup placement add --rgw-zonegroup default \
    --placement-id default-placement --storage-class "$class" >>"$setup" 2>&1 || fail "storage class $class"
  inside radosgw-admin "${conf[@]}" zone placement add --rgw-zone default --placement-id default-placement \
    --storage-class "$class" --data-pool default.rgw.buckets.data >>"$setup" 2>&1 || fail "storage class $class"
done
inside radosgw "${conf[@]}" -n client.rgw.a >>"$setup" 2>&1 || fail "the gateway"

endpoint="http://127.0.0.1:$gateway"
for try in $(seq 300); do
  curl --noproxy '*' -fsS -o /dev/null "$endpoint/" 2>/dev/null && break
  if [ "$try" -gt 20 ] && ! kill -0 "$(cat "$dir/run/client.rgw.a.pid" 2>/dev/null)" 2>/dev/null; then
    fail "the gateway died"
  fi
  [ "$try" -lt 300 ] || fail "the gateway does not answer"
  sleep 0.1
done

printf 'LIFECYCLE_TEST_S3_ENDPOINT=%s\nLIFECYCLE_TEST_S3_ACCESS=%s\nLIFECYCLE_TEST_S3_SECRET=%s\nLIFECYCLE_TEST_S3_DAY=%s\n' \
  "$endpoint" "$access" "$secret" "${LC_DEBUG:-0}" > "$dir/s3.env"
say "up after $SECONDS s"
echo "$endpoint"
