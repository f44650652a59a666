#!/usr/bin/env bash
# Start a real Slurm of one node on this machine, for tests:  start.sh [--no-install | --controller]
#
# munged, slurmctld and slurmd, on 127.0.0.1 alone; no systemd, cgroups or accounting. As root on Debian: missing
# packages are installed (--no-install: an error instead). What an earlier start left behind is stopped first.
# --controller: only start slurmctld again, with the state it had.
# An exit code of 3 says that there can't be a Slurm here, with the reason as the last line.
#
#   SLURM_RUN_DIR    configuration, state, logs and pid files  (/tmp/repsearch-slurm)
#   SLURM_CPUS       CPUs to declare                           (4; may exceed what the machine has)
#   SLURM_GPUS       GPUs to declare; there need be none       (3)
#   SLURM_PORT_BASE  first of two ports                        (26817)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=${SLURM_RUN_DIR:-/tmp/repsearch-slurm}
cpus=${SLURM_CPUS:-4}
gpus=${SLURM_GPUS:-3}
port=${SLURM_PORT_BASE:-26817}
node=$(hostname -s)
etc_conf=/etc/slurm/slurm.conf

unable() { echo "no Slurm here: $*" >&2; exit 3; }

[ "$(id -u)" = 0 ] || unable "root is needed"
[ -z "${SLURM_JOB_ID:-}" ] || unable "this is a Slurm job itself"
[ ! -e "$run" ] || [ -d "$run/pids" ] || unable "$run is there and not of this script's making"
if [ -e $etc_conf ] && [ "$(readlink $etc_conf)" != "$run/etc/slurm.conf" ]; then
    unable "$etc_conf belongs to another Slurm"
fi

# --- daemons
export SLURM_CONF=$run/etc/slurm.conf
launch() {  # launch NAME COMMAND...
    local name=$1; shift
    setsid "$@" >"$run/log/$name.out" 2>&1 </dev/null &
    echo $! > "$run/pids/$name.pid"
}
wait_for() {  # wait_for NAME COMMAND...: until the command succeeds
    local name=$1; shift
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        kill -0 "$(cat "$run/pids/$name.pid")" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$run/log/$name".* >&2
    echo "$name did not come up" >&2
    exit 1
}
controller() {  # controller [-c]: -c for an empty queue
    launch slurmctld slurmctld -D "$@"
    wait_for slurmctld scontrol ping
}
if [ "${1:-}" = --controller ]; then
    controller
    exit
fi
SLURM_RUN_DIR=$run "$here/stop.sh"

# --- packages
missing=()
command -v munged >/dev/null || missing+=(munge)
command -v slurmctld >/dev/null || missing+=(slurmctld)
command -v slurmd >/dev/null || missing+=(slurmd)
command -v sbatch >/dev/null || missing+=(slurm-client)
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || unable "no apt-get to install ${missing[*]} with"
    [ "${1:-}" != --no-install ] || unable "${missing[*]} not installed"
    # Keep dpkg from starting the packages' own services.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' > $policy
        chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    install() { apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1; }
    install || { apt-get update -qq >/dev/null 2>&1 && install; } || unable "apt-get can't install ${missing[*]}"
    if [ -n "$(trap -p EXIT)" ]; then rm -f $policy; trap - EXIT; fi
fi

# --- configuration; from here on a failure leaves nothing running
trap 'code=$?; [ $code = 0 ] || SLURM_RUN_DIR=$run "$here/stop.sh"' EXIT
rm -rf "$run"
mkdir -p "$run"/{etc,log,pids,munge,ctld,slurmd,dev} /etc/slurm
chmod 755 "$run" "$run"/*
# Jobs of snakemake-executor-plugin-slurm-jobstep drop SLURM_CONF: the file must be where Slurm looks by itself.
ln -sfn "$run/etc/slurm.conf" $etc_conf

# Partitions have the names of profiles/slurm. MinJobAge: what ended is asked for at the end of a test.
cat > "$run/etc/slurm.conf" <<CONF
ClusterName=repsearch
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$run/munge/socket
CredType=cred/munge
StateSaveLocation=$run/ctld
SlurmdSpoolDir=$run/slurmd
SlurmctldPidFile=$run/pids/slurmctld.self
SlurmdPidFile=$run/pids/slurmd.self
SlurmctldLogFile=$run/log/slurmctld.log
SlurmdLogFile=$run/log/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=2,requeue_delay=0
KillWait=3
CompleteWait=0
MinJobAge=86400
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
CONF
gres=
if [ "$gpus" -gt 0 ]; then
    echo "GresTypes=gpu" >> "$run/etc/slurm.conf"
    gres=" Gres=gpu:$gpus"
    for ((i = 0; i < gpus; i++)); do
        # Any character device will do; with a device Slurm sets CUDA_VISIBLE_DEVICES, without it only counts.
        if mknod -m 666 "$run/dev/gpu$i" c 1 3 2>/dev/null; then
            echo "NodeName=$node Name=gpu File=$run/dev/gpu$i" >> "$run/etc/gres.conf"
        fi
    done
    [ -e "$run/etc/gres.conf" ] || echo "NodeName=$node Name=gpu Count=$gpus" > "$run/etc/gres.conf"
fi
cat >> "$run/etc/slurm.conf" <<CONF
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=1000000$gres State=UNKNOWN
PartitionName=cpu Nodes=$node Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=gpu Nodes=$node MaxTime=1-00:00:00 State=UP
CONF

idle() { sinfo -h -o %T | grep -q '^idle'; }

mungekey --create --keyfile="$run/etc/munge.key"
launch munged munged --foreground --key-file="$run/etc/munge.key" --socket="$run/munge/socket" \
    --pid-file="$run/pids/munged.self" --log-file="$run/log/munged.log" --seed-file="$run/munge/seed" --num-threads=2
wait_for munged munge -n -S "$run/munge/socket"
controller -c
launch slurmd slurmd -D -N "$node"
wait_for slurmd idle
echo "Slurm runs: node $node, $cpus CPUs, $gpus GPUs; logs in $run/log"
