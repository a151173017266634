#!/usr/bin/env bash
# BBQRec, TIGER, SASRec and popularity on a folder in S3-Rec's layout (sequences.txt and items.json, as the Amazon sets
# come):  bash examples/compare.sh DATA [FOLDER]
# What is in FOLDER already is kept: after an interruption, the same command goes on.
set -euo pipefail
data=$(realpath "$1")
mkdir -p "${2:-compare}" && cd "${2:-compare}"
[ -e made-from ] || echo "$data" > made-from
[ "$(cat made-from)" = "$data" ] || { echo "$PWD is of $(cat made-from): name another folder" >&2; exit 2; }

[ -e dataset.h5 ] || bbqrec prepare s3rec "$data"
[ -e features.h5 ] || bbqrec embed --modalities text --resume
for recipe in bbqrec tiger; do
  [ -e $recipe-tokens.h5 ] || bbqrec tokenize --recipe $recipe -o $recipe-tokens.h5 --resume
  bbqrec collisions $recipe-tokens.h5 --groups 3
done

evaluate() { # NAME INPUT OPTION...
  [ -e "$1.h5" ] || bbqrec train "$2" "${@:3}" -o "$1.h5" --resume
  [ -e "$1-metrics.h5" ] || bbqrec evaluate "$1.h5" -o "$1-metrics.h5"
}
evaluate popularity dataset.h5 --model popularity
evaluate sasrec dataset.h5 --model sasrec
evaluate tiger tiger-tokens.h5 --recipe tiger --epochs 30  # its 200 are work for a GPU
evaluate bbqrec bbqrec-tokens.h5 --recipe bbqrec
bbqrec compare {popularity,sasrec,tiger,bbqrec}-metrics.h5
