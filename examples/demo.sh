#!/usr/bin/env bash
# The whole chain on the demo catalogue, which bbqrec makes itself:  bash examples/demo.sh [FOLDER]
# `make demo` runs it in an environment of its own.
set -euo pipefail
mkdir -p "${1:-demo}" && cd "${1:-demo}"
step() { printf '\n== %s\n' "$*"; }

step "1/8 prepare: a shop of 1,200 items with texts and pictures, and the interactions of 2,500 users"
bbqrec prepare demo --force

step "2/8 embed: texts and pictures become vectors"
bbqrec embed --force

step "3/8 tokenize: texts, pictures and behaviour become semantic IDs"
bbqrec tokenize --levels 3 --codebook-size 64 --epochs 20 --batch-size 128 --force

step "4/8 train: BBQRec's generator learns to generate the ID of the next item"
bbqrec train --layers 1 --decoder-layers 1 --learning-rate 0.003 --batch-size 64 --epochs 6 --force

step "5/8 popularity: the same items for everybody, to compare with"
bbqrec train --model popularity -o popularity.h5 --force
bbqrec evaluate popularity.h5 -o popularity-metrics.h5 --force

step "6/8 evaluate: every user's last item, ranked among all items; p against popularity"
bbqrec evaluate --against popularity-metrics.h5 --force

step "7/8 recommend: three users, by title"
bbqrec recommend --users 3 --top 5

step "8/8 how many items share a semantic ID, and BBQRec beside popularity"
bbqrec collisions
bbqrec compare metrics.h5 popularity-metrics.h5
