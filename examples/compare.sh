#!/usr/bin/env bash
# BBQRec, TIGER, SASRec and popularity on a folder in S3-Rec's layout (sequences.txt and items.json, as the Amazon sets
# come):  bash examples/compare.sh DATA [FOLDER]
# What is in FOLDER already is kept: after an interruption, the same command goes on.
set -euo pipefail
examples=$(cd "$(dirname "$0")" && pwd)
data=$(realpath "$1")
mkdir -p "${2:-compare}" && cd "${2:-compare}"

[ -e dataset.h5 ] || bbqrec prepare s3rec "$data"
[ -e features.h5 ] || bbqrec embed --modalities text --resume
for method in bbqrec rqvae; do
  [ -e $method-tokens.h5 ] ||
    bbqrec tokenize --config "$examples/tokenizers/$method.toml" -o $method-tokens.h5 --resume
  bbqrec collisions $method-tokens.h5 --groups 3
done

evaluate() { # MODEL INPUT
  [ -e "$1.h5" ] || bbqrec train "$2" --config "$examples/models/$1.toml" -o "$1.h5" --resume
  [ -e "$1-metrics.h5" ] || bbqrec evaluate "$1.h5" -o "$1-metrics.h5"
}
evaluate popularity dataset.h5
evaluate sasrec dataset.h5
evaluate tiger rqvae-tokens.h5
evaluate bbqrec bbqrec-tokens.h5
python "$examples/compare.py" {popularity,sasrec,tiger,bbqrec}-metrics.h5
