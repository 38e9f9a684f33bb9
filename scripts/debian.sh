# Debian packages. Sourced after lib.sh.

missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' ||
      echo "$package"
  done
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  dpkg --configure -a # in case an earlier installation was interrupted
  apt-get update || echo "going on with the package lists there are"
  apt-get install -y --no-install-recommends "$@"
}

# need_packages PACKAGE...   a step that installs those which are missing.
need_packages() {
  local missing
  command -v dpkg-query >/dev/null ||
    fail "this system does not use Debian packages" "Install what these are called here: $*" \
      "Then follow \"Building by hand\" in CONTRIBUTING.md."
  missing=$(missing_packages "$@" | tr '\n' ' ')
  missing=${missing% }
  if [[ -z $missing ]]; then
    step_done "Debian packages"
    return
  fi
  local by_hand="apt-get update && apt-get install -y --no-install-recommends $missing"
  ((EUID == 0)) ||
    fail "Debian packages are missing: $missing" "Run this, then repeat:" "sudo sh -c '$by_hand'"
  # shellcheck disable=SC2086  # one argument per package
  step debian "Debian packages ($missing)" "Does this work by hand?  $by_hand" \
    install_packages $missing
}
