#!/usr/bin/env bash
# Measures pretraining on the GPU of this machine, or shows on a CPU that the measuring works. See benchmarks/gpu.py.
#
#   bash benchmarks/gpu.sh [--wheels FOLDER] [--json FILE] [--minutes 8.5] [--device cpu --quick]
#
# Needs nothing but this repository and a Python with torch; what else acn-lm depends on comes from FOLDER, a folder of
# wheels, into a virtual environment of its own. PYTHON names the interpreter (default: .venv's where there are no wheels
# to install, else python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wheels=""
options=()
while (($#)); do
  case "$1" in
    --wheels) wheels="$2"; shift 2 ;;
    *) options+=("$1"); shift ;;
  esac
done

python="${PYTHON:-}"
if [ -z "$python" ]; then
  python=python3
  if [ -z "$wheels" ] && [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
fi
if [ -n "$wheels" ]; then
  environment="$(mktemp -d)"
  trap 'rm -rf "$environment"' EXIT
  "$python" -m venv --system-site-packages "$environment"
  # whatever torch the machine has stays: it was built for its driver
  torch="$("$python" -c 'from importlib.metadata import version; print("torch==" + version("torch"))')"
  "$environment/bin/python" -m pip install -q --no-index --find-links "$wheels" "$torch" \
    transformers deepspeed datasets accelerate mlflow "jsonargparse[signatures]" matplotlib psutil rich
  python="$environment/bin/python"
fi

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export HF_HUB_OFFLINE=1 MLFLOW_DISABLE_TELEMETRY=true TOKENIZERS_PARALLELISM=true
"$python" -m benchmarks.gpu "${options[@]}"
