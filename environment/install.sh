#!/bin/sh
# Builds .venv (everything the project imports) and .tools/dvc (the real DVC CLI, which must not
# share an environment with Dagster: hydra pins an antlr that breaks Dagster's asset selections).
# Both come from hashed locks; run again, it only repairs what is missing.
set -eu
cd "$(dirname "$0")/.."
torch=2.13.0
python="${PYTHON:-python3}"

"$python" - <<'PY' || { echo "pixelis needs Python 3.11 or newer with venv; set PYTHON=/path/to/python3" >&2; exit 1; }
import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 11))
PY

if [ ! -x .tools/uv/bin/uv ]; then
    "$python" -m venv .tools/uv
    .tools/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv==0.13.8' 2>.tools/uv/pip.log ||
        { cat .tools/uv/pip.log >&2; exit 1; }
fi
uv=.tools/uv/bin/uv

[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv
[ -x .tools/dvc/bin/python ] || "$uv" venv --quiet --python "$python" .tools/dvc

echo "installing the locked set into .venv"
"$uv" pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r environment/main.txt
echo "installing the DVC CLI into .tools/dvc"
"$uv" pip install --quiet --python .tools/dvc/bin/python --no-deps --require-hashes -r environment/dvc.txt

if ! .venv/bin/python -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$torch')" 2>/dev/null; then
    # pip's own find-links setting is asked for, because uv does not read it.
    links="$("$python" -m pip config get global.find-links 2>/dev/null || true)"
    links="${PIP_FIND_LINKS:-$links}"
    echo "installing torch $torch (CPU)"
    "$uv" pip install --quiet --python .venv/bin/python --no-deps --offline \
            ${links:+--find-links "$links"} "torch==$torch+cpu" 2>/dev/null ||
    "$uv" pip install --quiet --python .venv/bin/python --no-deps \
            --default-index https://download.pytorch.org/whl/cpu "torch==$torch+cpu" 2>/dev/null || {
        echo "no CPU build of torch is in reach: taking the registry's CUDA build, about 3 GB"
        "$uv" pip install --python .venv/bin/python "torch==$torch"
    }
fi
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
.venv/bin/python -c "import torch, cv2, dagster"
echo "ready: .venv/bin/pixelis --help"
