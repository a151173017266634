#!/usr/bin/env bash
# New items come to a shop whose recommender is trained already:  bash examples/new-items.sh [FOLDER]
# They get semantic IDs from the tokenizer as it is, every old ID stays, and the model recommends them without training.
# On the demo catalogue; what is in FOLDER already is kept.
set -euo pipefail
examples=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-new-items}" && cd "${1:-new-items}"
step() { printf '\n== %s\n' "$*"; }

[ -e dataset.h5 ] || bbqrec prepare demo
[ -e features.h5 ] || bbqrec embed --resume
[ -e yesterday.h5 ] || python "$examples/yesterday.py" features.h5 yesterday.h5

step "Yesterday: the shop before one item in twenty came"
[ -e tokens.h5 ] || bbqrec tokenize yesterday.h5 --levels 3 --codebook-size 64 --epochs 20 --batch-size 128 --resume
[ -e model.h5 ] ||
  bbqrec train --layers 1 --decoder-layers 1 --learning-rate 0.003 --batch-size 64 --epochs 6 --resume

step "Today: the new items get IDs, every old one stays"
bbqrec tokenize --append tokens.h5 features.h5 -o grown.h5 --force
bbqrec collisions grown.h5 --groups 3

step "Yesterday's model among today's items; apart, the users whose next item is new"
bbqrec evaluate --tokens grown.h5 --split validation --force
bbqrec recommend --tokens grown.h5 --users 2 --top 5
