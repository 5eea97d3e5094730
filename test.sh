#!/usr/bin/env bash
# Sets up .venv with the development tools, then lints, then tests.
#
#   ./test.sh                       # the fast tests
#   ./test.sh --all                 # all tests
#   ./test.sh tests/data -k crop    # other arguments go to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/setup.sh
set_up requirements.txt requirements-dev.txt

selection=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  selection=()
  shift
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
exec .venv/bin/python -m pytest "${selection[@]+"${selection[@]}"}" "$@"
