#!/bin/sh
# One node of a multi-node training run (docs/checkpoints.md#multi-node-training): the node with rank 0 runs the
# recipe up to its models, the others take part in the training of one of them.
#
#   train.sh RECIPE MODEL RANK
set -eu
recipe=$1 model=$2 rank=$3
if [ "$rank" = 0 ]; then
    exec gristmill run "$recipe" --until train
else
    exec gristmill train-node "$recipe" --model "$model"
fi
