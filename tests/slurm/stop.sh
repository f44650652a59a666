#!/usr/bin/env bash
# Stop what start.sh started, and nothing else: its jobs, then each daemon by its pid file. Harmless if nothing runs.
set -uo pipefail

run=${SLURM_RUN_DIR:-/tmp/repsearch-slurm}
etc_conf=/etc/slurm/slurm.conf
export SLURM_CONF=$run/etc/slurm.conf

pid_of() {  # pid_of NAME: its pid, if it lives and is still that daemon
    local pid
    pid=$(cat "$run/pids/$1.pid" 2>/dev/null) || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] && echo "$pid"
}

if pid_of slurmctld >/dev/null && pid_of slurmd >/dev/null; then
    jobs=$(timeout 10 squeue -h -o %A | sort -u)
    if [ -n "$jobs" ]; then
        # shellcheck disable=SC2086
        timeout 10 scancel $jobs
        for _ in $(seq 100); do
            [ -n "$(timeout 10 squeue -h -o %A)" ] || break
            sleep 0.2
        done
    fi
fi
for name in slurmd slurmctld munged; do
    pid=$(pid_of $name) || continue
    kill -TERM "$pid"
    for _ in $(seq 150); do
        pid_of $name >/dev/null || break
        sleep 0.1
    done
    if pid_of $name >/dev/null; then kill -KILL "$pid"; fi
done
# A job step that still waits to tell a controller of its end: known by the log that it writes to.
for step in /proc/[0-9]*; do
    [ "$(cat "$step/comm" 2>/dev/null)" = slurmstepd ] || continue
    if readlink "$step"/fd/* 2>/dev/null | grep -qxF "$run/log/slurmd.log"; then kill -KILL "${step#/proc/}"; fi
done
rm -f "$run"/pids/*.pid
if [ "$(readlink $etc_conf 2>/dev/null)" = "$run/etc/slurm.conf" ]; then rm -f $etc_conf; fi
exit 0
