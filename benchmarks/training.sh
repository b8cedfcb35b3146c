#!/bin/sh
# What training costs on this machine, as JSON and tables in FOLDER:
#
#   benchmarks/training.sh cpu FOLDER      (about half an hour on 2 cores)
#   benchmarks/training.sh cuda FOLDER
#
# In each table "plain" is the float32 loop with nothing kept; "times plain" the gain over it in the same run.
set -eu
device=$1
folder=$2
mkdir -p "$folder"
measure() {
    name=$1
    shift
    sivt benchmark --device "$device" --json "$folder/$name.json" "$@" | tee "$folder/$name.txt"
}

measure paper --config configs/sivt.yaml --trainer.precision bf16-mixed --growth true
measure small --config configs/small.yaml --trainer.precision bf16-mixed
measure small-float32 --config configs/small.yaml --trainer.precision 32-true
if [ "$device" = cuda ]; then
    for batch in 16 32 64 128 256; do # the best batch's share of the rate of a large matrix product
        measure "paper-batch-$batch" --config configs/sivt.yaml --trainer.precision bf16-mixed --data.batch_size "$batch"
    done
fi
