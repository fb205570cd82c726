#!/usr/bin/env bash
# Runs a study on a Slurm of two nodes on this machine, preempts, requeues and kills a node while it runs, and compares every
# artifact with a run of one process. Needs Debian's slurm-wlm (apt-get install slurm-wlm), no root, no systemd.
#
#   experiments/cluster/run-slurm.sh TARRL [PROFILE [REQUEUE_EXIT]]
#
# TARRL is the program, PROFILE a profile (smoke); with REQUEUE_EXIT "no" the administrator has not set RequeueExit=75.
set -euo pipefail
tarrl=$(realpath "$1"); profile=${2:-smoke}; requeue_exit=${3:-yes}
root=$(cd "$(dirname "$0")/../.." && pwd)
D=$(mktemp -d "${TMPDIR:-/tmp}/tarrl-slurm.XXXX")
H=$(hostname -s); U=$(id -un)
export SLURM_CONF=$D/slurm.conf
mkdir -p "$D/state" "$D/spool"
echo 'CgroupPlugin=cgroup/v1' > "$D/cgroup.conf"
cat > "$SLURM_CONF" <<CONF
ClusterName=two
SlurmctldHost=$H(127.0.0.1)
SlurmctldPort=16817
SlurmUser=$U
SlurmdUser=$U
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=10
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=2,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=20
KillWait=30
MinJobAge=300
MailProg=/bin/true
SlurmdParameters=config_overrides
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/ctld.pid
SlurmdPidFile=$D/%n.pid
SlurmctldLogFile=$D/ctld.log
SlurmdLogFile=$D/%n.log
NodeName=n1 NodeHostname=$H NodeAddr=127.0.0.1 Port=17001 CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=n2 NodeHostname=$H NodeAddr=127.0.0.1 Port=17002 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=600 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=n1,n2 MaxTime=600 PriorityTier=10 PreemptMode=OFF
CONF
[ "$requeue_exit" = no ] || echo 'RequeueExit=75' >> "$SLURM_CONF"

stop() {
    scancel -u "$U" 2>/dev/null || true
    for pid in "$D"/n1.pid "$D"/n2.pid "$D"/ctld.pid; do
        [ -f "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true
    done
}
trap stop EXIT
slurmctld -i; slurmd -N n1; slurmd -N n2
until [ "$(sinfo -h -N -p main -o %t | sort -u)" = idle ]; do sleep 1; done
say() { printf '%s  %s\n' "$(date +%T)" "$*"; }
say "two nodes are up, Slurm $(sinfo --version), RequeueExit=75: $requeue_exit, files in $D"

options=(--profile "$profile" --experiments "$root/experiments" --datasets "$root/datasets" --data "$root/data")
"$tarrl" submit --engine slurm "${options[@]}" --out "$D/runs" --cluster "$root/experiments/cluster/cluster.toml"
running() { squeue -h -t R -o '%A %j' | grep "$1" | awk 'NR==1 {print $1}'; }
next() { # a running task of the study, waited for
    local id
    until id=$(running tarrl-) && [ -n "$id" ]; do
        [ -n "$(squeue -h)" ] || return 1
        sleep 1
    done
    echo "$id"
}
for round in 1 2 3; do
    id=$(next) || break
    sleep $((2 + round * 3))
    say "preempt: a job that takes both nodes, for 5 s"
    sbatch --parsable -p high -N 2 --exclusive -o /dev/null --wrap 'srun sleep 5' >/dev/null
    sleep 8
    id=$(next) || break
    say "requeue $id"
    scontrol requeue "$id" || true
done
if id=$(next); then
    say "node n2 is lost: its slurmd is killed, and what it runs lives on"
    kill -9 "$(cat "$D/n2.pid")"
    sleep 45
    slurmd -N n2
    say "node n2 is back"
fi
while [ -n "$(squeue -h)" ]; do
    say "$("$tarrl" status --profile "$profile" --out "$D/runs" | tail -1)"
    sleep 20
done
"$tarrl" status --profile "$profile" --out "$D/runs" | tail -1
say "restarts of tasks: $("$tarrl" status --profile "$profile" --out "$D/runs" --json | grep -c '"begun": [2-9]') jobs were begun more than once"

say "the same study by one process"
"$tarrl" reproduce "${options[@]}" --threads 2 --out "$D/single" >/dev/null 2>"$D/single.log"
python3 "$root/experiments/cluster/compare.py" "$D/single/$profile" "$D/runs/$profile"
