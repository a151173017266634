#!/usr/bin/env bash
# The whole chain on your own data:  bash examples/chain.sh DATASET.h5 [FOLDER]
# `bbqrec prepare` makes the dataset file (docs/data.md). What is in FOLDER already is kept: after an interruption, the
# same command goes on.
set -euo pipefail
dataset=$(realpath "$1")
mkdir -p "${2:-run}" && cd "${2:-run}"
[ -e made-from ] || echo "$dataset" > made-from
[ "$(cat made-from)" = "$dataset" ] || { echo "$PWD is of $(cat made-from): name another folder" >&2; exit 2; }

[ -e features.h5 ] || bbqrec embed "$dataset" --resume
[ -e tokens.h5 ] || bbqrec tokenize --levels 3 --resume
bbqrec collisions
[ -e model.h5 ] || bbqrec train --resume
[ -e metrics.h5 ] || bbqrec evaluate
bbqrec recommend --users 5
