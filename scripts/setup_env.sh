#!/usr/bin/env bash
# Prepares the Python environment that demo.sh and run_tests.sh share, and names it in $PYTHON.
#
#   . scripts/setup_env.sh [EXTRAS]      in a script; EXTRAS such as dev,mat
#   bash scripts/setup_env.sh [EXTRAS]   by hand
#
# Makes .venv with a CPython 3.10 to 3.13 if there is none, and installs what is missing in it.
#   PYTHON=/path/to/python    uses that environment instead of .venv
#   TORCH_INDEX_URL=URL       takes torch and torchvision, both, from another package index

c2fdft_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Whether "$1" runs, is a CPython that the project supports and, with "$2" = venv, can make one.
c2fdft_suits() {
    "$1" - "${2:-}" >/dev/null 2>&1 <<'PYTHON_CHECK'
import sys
assert sys.implementation.name == 'cpython' and (3, 10) <= sys.version_info[:2] <= (3, 13)
if sys.argv[1] == 'venv':
    import ensurepip, venv
PYTHON_CHECK
}

c2fdft_find_python() {
    local candidate
    for candidate in python3 python3.12 python3.11 python3.13 python3.10 python; do
        if c2fdft_suits "$candidate" venv; then
            command -v "$candidate"
            return 0
        fi
    done
    {
        echo 'error: no CPython 3.10 to 3.13 that can make a virtual environment was found'
        echo '       (tried python3, python3.10 to python3.13, python).'
        echo '       Install one (on Debian and Ubuntu: apt install python3 python3-venv),'
        echo '       or name an environment: PYTHON=/path/to/python bash scripts/…'
    } >&2
    return 1
}

c2fdft_choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        if ! c2fdft_suits "$PYTHON"; then
            echo "error: PYTHON=$PYTHON is not a CPython 3.10 to 3.13 that runs" >&2
            return 1
        fi
        return 0
    fi
    PYTHON="$c2fdft_root/.venv/bin/python"
    if c2fdft_suits "$PYTHON" && "$PYTHON" -m pip --version >/dev/null 2>&1; then
        return 0
    fi
    if "$PYTHON" -c '' 2>/dev/null && ! c2fdft_suits "$PYTHON"; then
        echo "error: .venv holds $("$PYTHON" --version), not a CPython 3.10 to 3.13;" >&2
        echo '       move it away, or name another environment with PYTHON=/path/to/python' >&2
        return 1
    fi
    local base
    base="$(c2fdft_find_python)" || return 1
    echo "[set-up] making .venv with $("$base" --version) ($base)"
    "$base" -m venv --clear "$c2fdft_root/.venv"
}

c2fdft_choose_python || { return 1 2>/dev/null || exit 1; }
export PYTHON
"$PYTHON" "$c2fdft_root/scripts/install_environment.py" --extras "${1:-}" ||
    { return 1 2>/dev/null || exit 1; }
