#!/bin/sh
# Re-resolves both locks from pyproject.toml and *.in. Run by `make lock`, never by an install.
set -eu
cd "$(dirname "$0")/.."
uv="${UV:-.tools/uv/bin/uv}"
common="--universal --python-version 3.11 --generate-hashes --no-header --quiet"
"$uv" pip compile pyproject.toml environment/torch.in --extra dev --extra ray --extra faiss \
    --overrides environment/overrides.txt $common --output-file environment/main.txt
"$uv" pip compile environment/dvc.in $common --output-file environment/dvc.txt
