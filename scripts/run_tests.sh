#!/usr/bin/env bash
# Sets up the environment, then runs the formatter's and linter's checks, the type checker, the tests,
# and those of the kernels with sanitizers. Arguments go to pytest: bash scripts/run_tests.sh tests/model/diffusion -k ddim
#   PYTHON=/path/to/python    uses that environment instead of .venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup_env.sh dev,export,mat,metrics,plot,baselines,page,hub

# The page is tested in a real browser.
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null
    else
        echo "chromium and chromedriver are missing: the page is not tested in a browser"
        echo "(Debian: apt-get install chromium chromium-driver)"
    fi
fi

failed=()
check() {
    local name="$1"
    shift
    echo
    echo "== $name"
    "$@" || failed+=("$name")
}

check 'ruff check' "$PYTHON" -m ruff check .
check 'ruff format' "$PYTHON" -m ruff format --check .
check 'mypy' "$PYTHON" -m mypy
# A file's tests stay in one process, for the sake of what they share.
check 'pytest' "$PYTHON" -m pytest -n auto --maxprocesses=4 --dist loadfile --durations=15 "$@"

check 'kernels with sanitizers' bash scripts/test_kernels.sh

if [ "${#failed[@]}" -gt 0 ]; then
    echo
    echo "FAILED: ${failed[*]}"
    exit 1
fi
echo
echo 'All checks passed.'
