# What the scripts share: numbered steps with logs, and counting of test results.
#
# Sourced by bash scripts, which then stand in the root of the repository. A step shows its name and
# how long it took; its output goes to build/logs and is shown only if it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TORCH_DEVICE_BACKEND_AUTOLOAD=0 # no plugin of the machine's own takes part
logs=build/logs
results=build/results
jobs=$(nproc)
step_number=0
steps_total=${TREADLE_STEPS_TOTAL:-?}
mkdir -p "$logs" "$results"

say() { printf '%s\n' "$*"; }
fail() {
  printf '\nFAILED: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

# One run at a time in a checkout: a second one waits.
take_turn() {
  [[ -n ${TREADLE_HAS_TURN:-} ]] && return
  exec 9>build/.turn
  if ! flock --nonblock 9; then
    say "another run is busy in this checkout; waiting for it"
    flock 9
  fi
  export TREADLE_HAS_TURN=1
}

# On a terminal, the last line of the running step's log, until the step ends.
show_progress() {
  local pid=$1 log=$2 text=$3 width last
  [[ -t 1 ]] || return 0
  while kill -0 "$pid" 2>/dev/null; do
    width=$(($(tput cols 2>/dev/null || echo 80) - ${#text} - 12))
    last=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r\033' | cut -c "1-$((width > 8 ? width : 8))")
    printf '\r\033[K%s … %d s  %s' "$text" $((SECONDS - step_started)) "$last"
    sleep 1
  done
  printf '\r\033[K%s …' "$text"
}

# step NAME TEXT ADVICE COMMAND...   runs the command, or says why not and ends the script.
step() {
  local name=$1 text=$2 advice=$3 log="$logs/$1.log" pid code=0
  shift 3
  step_number=$((step_number + 1))
  text="[$step_number/$steps_total] $text"
  step_started=$SECONDS
  printf '%s …' "$text"
  "$@" >"$log" 2>&1 </dev/null 9>&- &
  pid=$!
  running=$pid
  show_progress "$pid" "$log" "$text"
  wait "$pid" || code=$?
  running=
  if ((code != 0)); then
    printf ' failed after %d s\n' $((SECONDS - step_started))
    printf '\nThe last lines of %s:\n' "$log" >&2
    tail -n 30 "$log" | sed 's/^/  | /' >&2
    fail "step $step_number ($name) ended with status $code" "$advice"
  fi
  printf ' %d s\n' $((SECONDS - step_started))
}

# step_done TEXT   a step with nothing left to do.
step_done() {
  step_number=$((step_number + 1))
  say "[$step_number/$steps_total] $1 … already done"
}

running=
interrupted() {
  trap - INT TERM
  [[ -n $running ]] && kill "$running" 2>/dev/null
  printf '\ninterrupted; run the same command again and it goes on from here\n' >&2
  exit 130
}
trap interrupted INT TERM

# Whether the stamp file $1 holds the text $2.
stamped() { [[ -f $1 && $(<"$1") == "$2" ]]; }

hash_of() { cat "$@" | sha256sum | cut -d ' ' -f 1; }

# A hash over the sources that go into the Python package: names and contents.
sources_hash() {
  find CMakeLists.txt pyproject.toml README.md LICENSE cmake core transport collectives \
    compression scheduling parameter_server bench plugins -type f \
    \( -name '*.cc' -o -name '*.h' -o -name '*.py' -o -name '*.cmake' -o -name '*.in' -o \
    -name CMakeLists.txt -o -name pyproject.toml -o -name README.md -o -name LICENSE \) \
    -print0 2>/dev/null | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1
}

# The sum of an attribute over the suites of a JUnit file. ctest and pytest both write such files.
junit_sum() {
  grep -oE '<testsuite [^>]*' "$1" 2>/dev/null | tr '\n' ' ' |
    grep -oE "\\b$2=\"[0-9]+\"" | grep -oE '[0-9]+' | awk '{n += $1} END {print n + 0}'
}

# count_junit SUITE FILE STATUS   writes "passed failed skipped" of a suite to build/results. A suite
# that did not report, or failed without a failing test, counts as one failure.
count_junit() {
  local suite=$1 file=$2 status=$3 tests bad skipped
  tests=$(junit_sum "$file" tests)
  bad=$(($(junit_sum "$file" failures) + $(junit_sum "$file" errors)))
  skipped=$(($(junit_sum "$file" skipped) + $(junit_sum "$file" disabled)))
  if ((status != 0 && bad == 0)); then bad=1 tests=$((tests + 1)); fi
  echo "$((tests - bad - skipped)) $bad $skipped" >"$results/$suite.count"
}

# print_totals SUITE...   a table, then the closing line. Status 1 if anything failed.
print_totals() {
  local suite passed failed skipped all_passed=0 all_failed=0
  say ""
  for suite in "$@"; do
    [[ -f $results/$suite.count ]] || continue
    read -r passed failed skipped <"$results/$suite.count"
    printf '  %-24s %6d passed %4d failed %4d skipped\n' "$suite" "$passed" "$failed" "$skipped"
    all_passed=$((all_passed + passed)) all_failed=$((all_failed + failed))
  done
  say ""
  say "$all_passed passed, $all_failed failed"
  ((all_failed == 0 && all_passed > 0))
}
