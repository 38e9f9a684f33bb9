# What the scripts share: numbered steps with logs. Sourced by bash scripts, which then stand in the
# root of the repository.
#
# A step shows its name and how long it took; its output goes to build/logs and is shown only if it
# fails. Nothing here may be exported as TREADLE_...: the library refuses settings it does not know.
[[ -z ${step_number:-} ]] || return 0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TREADLE_PYTHON=${TREADLE_PYTHON:-}
export -n TREADLE_PYTHON
logs=build/logs
jobs=$(nproc)
step_number=0
mkdir -p "$logs"

say() { printf '%s\n' "$*"; }

# fail WHAT ADVICE...   ends the script.
fail() {
  printf '\nFAILED: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

# One run at a time in a checkout: a second one waits. The lock is file descriptor 9, which nothing
# that a step starts inherits.
take_turn() {
  exec 9>build/.turn
  flock --nonblock 9 && return
  say "another run is busy in this checkout; waiting for it"
  flock 9
}

# On a terminal: the last line of the running step's log, until the step ends.
show_progress() {
  local pid=$1 log=$2 text=$3 width last
  [[ -t 1 ]] || return 0
  while kill -0 "$pid" 2>/dev/null; do
    width=$(($(tput cols 2>/dev/null || echo 80) - ${#text} - 12))
    last=$(tail -n 1 "$log" 2>/dev/null | tr -cd '[:print:]' | cut -c "1-$((width > 8 ? width : 8))")
    printf '\r\033[K%s … %d s  %s' "$text" $((SECONDS - step_started)) "$last"
    sleep 1
  done
  printf '\r\033[K%s …' "$text"
}

# try_step NAME TEXT COMMAND...   runs the command, puts its status into step_code and shows why it
# failed. (A return value would invite `try_step ... || ...`, which switches off `set -e` in COMMAND.)
try_step() {
  local text=$2 log="$logs/$1.log"
  shift 2
  step_code=0
  step_number=$((step_number + 1))
  text="[$step_number/$steps_total] $text"
  step_started=$SECONDS
  printf '%s …' "$text"
  "$@" >"$log" 2>&1 </dev/null 9>&- &
  running=$!
  show_progress "$running" "$log" "$text"
  wait "$running" || step_code=$?
  running=
  if ((step_code == 0)); then
    printf ' %d s\n' $((SECONDS - step_started))
    return
  fi
  printf ' failed after %d s\n\nThe last lines of %s:\n' $((SECONDS - step_started)) "$log"
  tail -n 30 "$log" | sed 's/^/  | /'
}

# step NAME TEXT ADVICE COMMAND...   runs the command, or ends the script with the advice.
step() {
  local name=$1 text=$2 advice=$3
  shift 3
  try_step "$name" "$text" "$@"
  ((step_code == 0)) || fail "step $step_number ($name) ended with status $step_code" "$advice"
}

# step_done TEXT   a step with nothing left to do.
step_done() {
  step_number=$((step_number + 1))
  say "[$step_number/$steps_total] $1 … already done"
}

# Ends a process and all that it started. (Steps run in the background, where Ctrl-C is ignored.)
end_tree() {
  local child
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do end_tree "$child"; done
  kill "$1" 2>/dev/null || true
}

running=
interrupted() {
  trap - INT TERM HUP
  if [[ -n $running ]]; then
    end_tree "$running"
    wait "$running" 2>/dev/null || true
  fi
  printf '\ninterrupted; run the same command again and it goes on from here\n' >&2
  exit 130
}
trap interrupted INT TERM HUP

# Whether the stamp file $1 holds the text $2.
stamped() { [[ -f $1 && $(<"$1") == "$2" ]]; }
