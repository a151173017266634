#!/usr/bin/env bash
# The pages that bbqrec writes, on the demo's small shop:  bash examples/pages.sh [FOLDER]
# FOLDER then holds collisions.html and benchmark.html, and nothing else of this.
set -euo pipefail
examples=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-pages}"
pages=$(cd "${1:-pages}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$examples/pages.toml" "$work"  # so that the page names no folder
cd "$work"

bbqrec prepare demo --size small --quiet
bbqrec embed --modalities image --quiet
bbqrec tokenize --method rqkmeans --levels 2 --codebook-size 16 -o rqkmeans.h5 --quiet
bbqrec tokenize --method random --levels 2 --codebook-size 16 -o random.h5 --quiet
bbqrec collisions rqkmeans.h5 random.h5 --features features.h5 --report collisions.html --quiet
bbqrec benchmark pages.toml --report benchmark.html --quiet
mv -f collisions.html benchmark.html "$pages"
