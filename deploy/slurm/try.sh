#!/bin/bash
# Tries train.sbatch on a real Slurm of one machine: starts a run, signals it, sees it
# queued again and resumed, and compares its end with that of a run left alone.
#
#   deploy/slurm/try.sh            as root on Debian; installs slurm-wlm and munge if missing
#
# It works below a temporary directory, and ends the daemons that it started.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
chmod 755 "$work"
export SLURM_CONF=$work/slurm.conf
say() { printf '%s %s\n' "$(date +%T)" "$*"; }

stop() {
  scancel --quiet --user=root 2>/dev/null || true
  for name in slurmd slurmctld munged; do
    if [ -s "$work/$name.pid" ]; then kill "$(cat "$work/$name.pid")" 2>/dev/null || true; fi
  done
}
trap stop EXIT

if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q slurm-wlm munge >/dev/null
fi
say "$(slurmctld -V)"

# A key and a socket of its own, so that a munge of the system's is left alone.
mkdir -p "$work/munge" "$work/ctld" "$work/d"
chmod 755 "$work/munge"
dd if=/dev/urandom of="$work/munge.key" bs=128 count=1 status=none
chmod 400 "$work/munge.key"
munged --force --key-file="$work/munge.key" --socket="$work/munge/socket" --pid-file="$work/munged.pid" \
  --log-file="$work/munged.log" --seed-file="$work/munge.seed"

host=$(hostname -s)
cat >"$SLURM_CONF" <<CONF
ClusterName=try
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/ctld
SlurmdSpoolDir=$work/d
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MpiDefault=none
SchedulerParameters=batch_sched_delay=1,sched_interval=2
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld
slurmd
for _ in $(seq 50); do
  if sinfo -h -o %T 2>/dev/null | grep -q idle; then break; fi
  sleep 0.2
done
sinfo

say building
CGO_ENABLED=0 go build -o "$work/train" ./cmd/train
mkdir "$work/text"
for i in $(seq 40); do
  for _ in $(seq 20); do echo "Text $i has its own number, $((i * i))."; done >"$work/text/$i.txt"
done
cat >"$work/small.yaml" <<YAML
model: {vocab_size: 272, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1,
  layer_pattern: aM, num_experts: 2, num_experts_per_tok: 1, mamba_d_state: 4}
data: {sources: [{path: $work/text, ext: .txt}], sequence_length: 32, cache_dir: $work/cache}
trainer: {steps: ${STEPS:-4000}, batch_size: 4, eval_every: 100000, eval_tokens: 64, samples: 0, threads: 1}
checkpoint: {every: 200}
parallel: {data: 2}
YAML

submit() {
  TRAIN=$work/train sbatch --parsable --overcommit --chdir="$work" "$PWD/deploy/slurm/train.sbatch" --config "$work/small.yaml" --out "$work/$1" --device cpu
}
# await JOB PATTERN: until the output of a job has a line.
await() {
  for _ in $(seq 900); do
    if grep -qE "$2" "$work/jambalaya-$1.out" 2>/dev/null; then return; fi
    sleep 0.2
  done
  say "job $1 does not say: $2"
  squeue
  cat "$work/jambalaya-$1.out" || true
  tail -n 20 "$work/slurmctld.log"
  return 1
}
steps() { cat "$work/$1/metrics.jsonl" 2>/dev/null | wc -l; }

whole=$(submit whole)
say "job $whole: left alone"
await "$whole" 'steps, .* tokens'

job=$(submit signalled)
say "job $job: to be signalled"
for round in 1 2; do
  signal=$([ $round = 1 ] && echo USR1 || echo TERM)
  while [ "$(steps signalled)" -lt $((round * 1000)) ]; do sleep 0.1; done
  at=$(date +%s%N)
  scancel --signal=$signal "$job"
  await "$job" "queued again \(restart $((round - 1))\)"
  say "SIG$signal: saved and queued again after $((($(date +%s%N) - at) / 1000000)) ms"
  # Slurm lets a job that was queued again wait for two minutes. It revokes credentials by
  # the second: a start within the one in which the job ended is refused.
  sleep 2
  until scontrol update jobid="$job" starttime=now 2>/dev/null; do sleep 0.5; done
done
await "$job" 'steps, .* tokens'
grep -E 'resumed from|queued again|stopped' "$work/jambalaya-$job.out"
scontrol show job "$job" | grep -oE 'Restarts=[0-9]+|JobState=[A-Z]+' || true

last=$(basename "$(find "$work/whole/checkpoints" -name 'step-*' -maxdepth 1 | sort | tail -1)")
for file in "$work/whole/checkpoints/$last"/*.safetensors; do
  cmp "$file" "$work/signalled/checkpoints/$last/$(basename "$file")"
done
say "$last: the same weights and optimiser state, bit by bit"
stop
rm -rf "$work"
