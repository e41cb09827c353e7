#!/usr/bin/env bash
# Compiles the C++ kernels with the address and the undefined-behaviour sanitizer and runs their tests.
# Arguments go to pytest.
#   PYTHON=/path/to/python    uses that environment instead of .venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup_env.sh dev

compiler="${CXX:-c++}"
runtimes=()
for name in libasan.so libubsan.so; do
    # Where there is none, the compiler gives the name back.
    path="$($compiler -print-file-name=$name 2>/dev/null || true)"
    if [ ! -e "$path" ]; then
        echo "the kernels are not tested with sanitizers: $compiler has no $name"
        exit 0
    fi
    runtimes+=("$path")
done

export C2FDFT_NATIVE_FLAGS='-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all'
export XDG_CACHE_HOME="$PWD/.cache/sanitized" OMP_NUM_THREADS=1
# Python itself is not compiled with the sanitizers, and leaks at its end are its own.
LD_PRELOAD="${runtimes[*]}" ASAN_OPTIONS=detect_leaks=0 "$PYTHON" -m pytest -n 2 --dist worksteal -q \
    tests/arch/native/test_build.py::test_where_a_compiler_and_avx2_are_there_are_kernels \
    tests/arch/native/test_native.py tests/arch/native/test_bindings.py \
    tests/arch/training/test_native_branches.py "$@"
