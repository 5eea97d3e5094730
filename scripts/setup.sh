# Sourced by run.sh and test.sh at the top of the checkout: makes .venv, installs what is locked.

# Prints the interpreter to make .venv with: $PYTHON, else the newest of 3.13 to 3.11 that starts.
find_python() {
  local candidate check='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
  if [ -n "${PYTHON:-}" ]; then
    if "$PYTHON" -c "$check" 2>/dev/null; then
      printf '%s\n' "$PYTHON"
      return
    fi
    echo "error: PYTHON=$PYTHON does not start or is not Python 3.11, 3.12 or 3.13" >&2
    return 2
  fi
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    # Run it: a version manager may have put a name on the path behind which nothing is installed.
    if "$candidate" -c "$check" 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  echo "error: Python 3.11, 3.12 or 3.13 is needed and none was found;" \
    "install one, or name it: PYTHON=/path/to/python $0" >&2
  return 2
}

# set_up FILE...: installs the packages of lock files, once; one with another checksum than the file
# says is refused. The marker holds their checksum and is
# written last: a .venv interrupted half-way is finished by the next call, a finished one costs
# nothing.
set_up() {
  local wanted marker python
  marker=".venv/installed-$(printf '%s-' "$@" | tr -c 'a-z\n' '-').sha256"
  wanted=$(sha256sum "$@")
  if [ -f "$marker" ] && [ "$(cat "$marker")" = "$wanted" ] &&
    .venv/bin/python -c '' 2>/dev/null; then
    return
  fi
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || {
      echo "error: $python cannot make virtual environments" \
        "(on Debian and Ubuntu: install python3-venv)" >&2
      return 2
    }
  fi
  echo "Installing $*: a few minutes the first time"
  local file arguments=()
  for file in "$@"; do arguments+=(-r "$file"); done
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
    "${arguments[@]}"
  printf '%s\n' "$wanted" >"$marker"
}
