#!/usr/bin/env bash
# Gathers what a bare GPU machine lacks to run `scripts/benchmark.py gpu`, where it has Python,
# PyTorch with CUDA, torchvision, NumPy, OpenCV and tensorboard, but no network: BasicSR, this
# project and their small requirements, as wheels. Prints the command for that machine.
#
#   bash scripts/gpu_kit.sh [FOLDER]        FOLDER: default build/gpu_kit
#   TARGET_PYTHON=3.12                      the Python of that machine
#   KIT_MINUTES=6                           of the benchmark
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
kit="${1:-build/gpu_kit}"
target="${TARGET_PYTHON:-3.12}"
minutes="${KIT_MINUTES:-6}"
case "$target" in
3.1[0-3]) ;;
*)
    echo "error: TARGET_PYTHON=$target given; it is 3.10, 3.11, 3.12 or 3.13" >&2
    exit 2
    ;;
esac
. scripts/setup_env.sh

rm -rf "$kit"
mkdir -p "$kit"

platforms=()
for number in 28 27 24 17; do platforms+=(--platform "manylinux_2_${number}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64 --platform linux_x86_64)
echo "[gpu kit] wheels for CPython $target"
"$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version "$target" \
    --implementation cp "${platforms[@]}" -d "$kit" \
    addict filelock future lmdb platformdirs pytorch-msssim tifffile tqdm yapf
# With its requirements, which have to fit it.
"$PYTHON" -m pip download -q --only-binary=:all: --python-version "$target" \
    --implementation cp "${platforms[@]}" -d "$kit" pydantic
# BasicSR comes as source only; what set-up installed here is built once more, as a wheel.
"$PYTHON" scripts/install_environment.py --basicsr-wheel "$kit"
"$PYTHON" -m pip wheel -q --no-deps --no-build-isolation -w "$kit" .
size=$(du -sm "$kit" | cut -f1)
if [ "$size" -ge 40 ]; then
    echo "error: $kit takes $size MB; it should stay below 40" >&2
    exit 1
fi
echo "[gpu kit] $(find "$kit" -name '*.whl' | wc -l) wheels, $size MB, in $kit"
echo '[gpu kit] copy this checkout and that folder to the machine; there, in the checkout:'
echo
echo "python3 -m pip install -q --no-index --no-deps $kit/*.whl &&" \
    "python3 scripts/benchmark.py gpu --minutes $minutes --json gpu_benchmark.json"
