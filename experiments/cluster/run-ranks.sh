#!/usr/bin/env bash
# Trains ConvSmall on one process and on several, over TCP and over Open MPI, and compares every file that a result consists of.
# Then measures two ranks of one thread beside two threads of one process. Needs Debian's openmpi-bin, and for an idle measurement two
# cores that nobody else uses.
#
#   experiments/cluster/run-ranks.sh TARRL [EPOCHS [REPEATS]]
#
# TARRL is a program that was built with the feature mpi: cargo build --release -p tarrl-cli --features mpi
set -euo pipefail
tarrl=$(realpath "$1"); epochs=${2:-1}; repeats=${3:-3}
D=$(mktemp -d "${TMPDIR:-/tmp}/tarrl-ranks.XXXX")
cd "$(dirname "$0")/../.."
mpi=(mpirun --oversubscribe)
[ "$(id -u)" != 0 ] || mpi+=(--allow-run-as-root)
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_rmaps_base_oversubscribe=1

train() { # train OUT SHARDS [OPTION...]
    local out=$1 shards=$2; shift 2
    echo pretrain --method simclr --dataset fashion-mnist-sample --batch 256 --epochs "$epochs" --shards "$shards" --out "$D/$out" "$@"
}
same() { # same A B
    for file in checkpoint.safetensors encoder.safetensors; do
        cmp "$D/$1/$file" "$D/$2/$file"
    done
    echo "$2: the files of $1, to the bit"
}

# Four shards on one, two and four ranks.
"$tarrl" $(train alone 4) 2> "$D/alone.log"
for ranks in 2 4; do
    "${mpi[@]}" -np $ranks "$tarrl" $(train mpi-$ranks 4 --connect mpi --threads 1) 2> "$D/mpi-$ranks.log"
    same alone mpi-$ranks
    pids=()
    for rank in $(seq 0 $((ranks - 1))); do
        RANK=$rank WORLD_SIZE=$ranks MASTER_ADDR=127.0.0.1 MASTER_PORT=$((29600 + ranks)) \
            "$tarrl" $(train tcp-$ranks 4 --threads 1) 2> "$D/tcp-$ranks-$rank.log" & pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    same alone tcp-$ranks
done

# A rank that is killed takes the others with it; the training goes on with another number.
set +e
"${mpi[@]}" -np 2 "$tarrl" $(train killed 4 --connect mpi --threads 1) 2> "$D/killed.log" & job=$!
until [ "$(cat "$D/killed/metrics.jsonl" 2> /dev/null | wc -l)" -gt 0 ]; do sleep 0.05; done
kill -9 "$(pgrep -P $job -n tarrl)"
wait $job
echo "a rank was killed: mpirun ended with $?"
set -e
"${mpi[@]}" -np 4 "$tarrl" $(train killed 4 --connect mpi --threads 1) 2> "$D/resumed.log"
same alone killed

# The library's own sum: bits of its own.
"${mpi[@]}" -np 4 "$tarrl" $(train any 4 --connect mpi --threads 1 --sum any) 2> "$D/any.log"
cmp -s "$D/alone/encoder.safetensors" "$D/any/encoder.safetensors" && echo "any: the same bits" || echo "any: other bits"

# Two ranks of one thread beside two threads, in turn.
for i in $(seq "$repeats"); do
    ( time "$tarrl" $(train threads-$i 2 --threads 2) 2> /dev/null ) 2>&1 | tr '\n' ' '; echo "two threads, two shards"
    ( time "${mpi[@]}" -np 2 "$tarrl" $(train ranks-$i 2 --connect mpi --threads 1) 2> /dev/null ) 2>&1 | tr '\n' ' '; echo "two ranks"
    ( time "$tarrl" $(train plain-$i 1 --threads 2) 2> /dev/null ) 2>&1 | tr '\n' ' '; echo "two threads, no shards"
    same threads-$i ranks-$i
done
rm -rf "$D"
