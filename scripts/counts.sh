# Counting test results. Sourced after lib.sh. Each suite leaves "passed failed skipped" in
# build/results/<suite>.count.
results=$PWD/build/results
mkdir -p "$results"

# The sum of an attribute over the suites of a JUnit file, such as ctest and pytest write.
junit_sum() {
  [[ -f $1 ]] || { echo 0 && return; }
  tr '\n\t' '  ' <"$1" | grep -oE '<testsuite [^>]*' | grep -oE " $2=\"[0-9]+\"" |
    tr -cd '0-9\n' | awk '{n += $1} END {print n + 0}' || true
}

# count_junit SUITE STATUS   of $results/SUITE.xml and the status of the program that wrote it. A
# suite that failed without a failing test, or wrote nothing, counts as one failure.
count_junit() {
  local suite=$1 status=$2 file="$results/$1.xml" tests bad skipped
  tests=$(junit_sum "$file" tests)
  bad=$(($(junit_sum "$file" failures) + $(junit_sum "$file" errors)))
  skipped=$(($(junit_sum "$file" skipped) + $(junit_sum "$file" disabled)))
  if ((tests == 0 || (status != 0 && bad == 0))); then bad=1 tests=$((tests + 1)); fi
  echo "$((tests - bad - skipped)) $bad $skipped" >"$results/$suite.count"
}

# count_one SUITE STATUS   of a suite that is one check.
count_one() {
  if (($2 == 0)); then echo "1 0 0"; else echo "0 1 0"; fi >"$results/$1.count"
}

# print_totals SUITE...   a table and the closing line. Returns 1 if anything failed or nothing ran.
print_totals() {
  local suite passed failed skipped all_passed=0 all_failed=0
  say ""
  for suite in "$@"; do
    [[ -f $results/$suite.count ]] || continue
    read -r passed failed skipped <"$results/$suite.count"
    printf '  %-12s %6d passed %5d failed %5d skipped\n' "$suite" "$passed" "$failed" "$skipped"
    all_passed=$((all_passed + passed)) all_failed=$((all_failed + failed))
  done
  say ""
  say "$all_passed passed, $all_failed failed"
  ((all_failed == 0 && all_passed > 0))
}
