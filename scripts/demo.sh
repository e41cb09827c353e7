#!/usr/bin/env bash
# Trains a small network on rainy photographs with BasicSR on the CPU, coarse then fine, and shows
# what each stage bought on photographs that it has not seen.
#
#   bash scripts/demo.sh           sets up .venv if there is none; goes on where an earlier run ended
#   bash scripts/demo.sh --paper   predicts the noise in four steps, as the paper does
#   bash scripts/demo.sh --fresh   starts over (the environment stays)
#   PYTHON=/path/to/python bash scripts/demo.sh    uses an environment that is there already
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/setup_env.sh ''  # no extras; without an argument it would be given ours

export PYTHONPATH="$PWD/scripts${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -u -m demo "$@"
