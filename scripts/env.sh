# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts: the repository root, and its own tools first in PATH.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 1
export PATH="$ROOT/.venv/bin:$PATH"
PYTHON_IN_VENV="$ROOT/.venv/bin/python"

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf '%s\n' "$*" >&2; exit 1; }
