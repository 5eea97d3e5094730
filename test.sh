#!/usr/bin/env bash
# Sets up .venv with the development tools, then lints, then tests.
#
#   ./test.sh                       # the fast tests, in two processes
#   ./test.sh --all                 # all tests, in two processes
#   ./test.sh tests/data -k crop    # other arguments go to pytest, which then runs in one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/setup.sh
set_up requirements.lock requirements-dev.lock

selection=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  selection=()
  shift
fi
if [ "$#" -eq 0 ]; then
  # The tests of a file share what they make; tests/conftest.py says which files come first.
  selection+=(-n 2 --dist loadfile --no-loadscope-reorder)
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
exec .venv/bin/python -m pytest "${selection[@]+"${selection[@]}"}" "$@"
