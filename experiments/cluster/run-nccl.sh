#!/usr/bin/env bash
# Trains on one GPU and on several over NCCL, one process for each, and compares every file that a result consists of. Then kills a
# rank, suspends one, and resumes with another number. Needs four GPUs of one kind and NCCL; with the folder of the emulator in
# TARRL_CUDA_LIBRARIES (docs/gpu.md) it needs NVRTC alone, and the smallest images.
#
#   experiments/cluster/run-nccl.sh TARRL DATASET [OPTION...]
#
# TARRL is a program that was built with the feature cuda: cargo build --release -p tarrl-cli --features cuda
# OPTION is passed on to every training: --epochs, --width, --batch
set -euo pipefail
tarrl=$(realpath "$1"); dataset=$2; shift 2; options=("$@")
D=$(mktemp -d "${TMPDIR:-/tmp}/tarrl-nccl.XXXX")
port=29700

start() { # start OUT RANKS [OPTION...]: sets pids
    local out=$1 ranks=$2 rank; shift 2
    port=$((port + 1)); pids=()
    for rank in $(seq 0 $((ranks - 1))); do
        RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$ranks MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
            "$tarrl" pretrain --method simclr --dataset "$dataset" --device cuda --shards 4 --threads 1 --out "$D/$out" \
            "${options[@]}" "$@" 2> "$D/$out-$rank.log" > /dev/null & pids+=($!)
    done
}
end() { # end OUT: waits for all and shows how each ended
    local pid codes=()
    for pid in "${pids[@]}"; do wait "$pid" && codes+=(0) || codes+=($?); done
    echo "$1: exit codes ${codes[*]}; $(cat "$D/$1"-*.log | grep 'error: ' || echo 'no error')"
}
same() { # same A B
    for file in checkpoint.safetensors encoder.safetensors; do
        cmp "$D/$1/$file" "$D/$2/$file"
    done
    echo "$2: the files of $1, to the bit"
}
steps() { # steps OUT: waits for the first steps
    until [ "$(cat "$D/$1/metrics.jsonl" 2> /dev/null | wc -l)" -gt 1 ]; do sleep 0.05; done
}

start alone 1; end alone
for ranks in 2 4; do
    start nccl-$ranks $ranks --connect nccl; end nccl-$ranks
    same alone nccl-$ranks
done
start tcp-2 2; end tcp-2
same alone tcp-2

# A rank that dies takes the others with it; the training goes on with another number.
start killed 4 --connect nccl; steps killed
kill -9 "${pids[2]}"; end killed
start killed 2 --connect nccl; end killed
same alone killed

# A rank that is silent does, too, after the timeout; it ends when it goes on.
start hung 2 --connect nccl --rank-timeout 20; steps hung
kill -STOP "${pids[1]}"
while kill -0 "${pids[0]}" 2> /dev/null; do sleep 0.2; done
kill -CONT "${pids[1]}"; end hung
start hung 1; end hung
same alone hung

start any 4 --connect nccl --sum any; end any
cmp -s "$D/alone/encoder.safetensors" "$D/any/encoder.safetensors" && echo "any: the same bits" || echo "any: other bits"
rm -rf "$D"
