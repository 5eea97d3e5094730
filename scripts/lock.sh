#!/usr/bin/env bash
# Writes the checksums of the packages that requirements.txt and requirements-dev.txt pin, and of what
# containers/Dockerfile.gpu adds, for pip install --require-hashes. After a change of those files:
#
#   pip install uv && scripts/lock.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock() {
  uv pip compile --quiet --no-config --universal --python-version 3.11.5 --generate-hashes \
    --no-annotate --custom-compile-command scripts/lock.sh "$@" >/dev/null
}

lock --no-deps requirements.txt --output-file requirements.lock
lock --no-deps requirements-dev.txt --output-file requirements-dev.lock
tensorflow=$(sed -n 's/^tensorflow==\([0-9.]*\).*/\1/p' requirements.txt)
echo "tensorflow[and-cuda]==$tensorflow" |
  lock --constraints requirements.txt - --output-file containers/gpu.lock
