# The Python environment .venv. Sourced after lib.sh.

# The full path of Python $1, if it is 3.11 or newer, can make environments and compile modules.
suitable_python() {
  "$1" - 2>/dev/null <<'PYTHON'
import ensurepip, os, sys, sysconfig, venv
assert sys.version_info >= (3, 11)
assert os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
print(sys.executable)
PYTHON
}

find_python() {
  if [[ -n $TREADLE_PYTHON ]]; then
    suitable_python "$TREADLE_PYTHON" || true
  else
    suitable_python python3 || suitable_python /usr/bin/python3 || true
  fi
}

torch_version_of() {
  "$1" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || true
}

same_base() {
  local base='import sys; print(sys.base_prefix, sys.version)'
  [[ $(.venv/bin/python -c "$base" 2>/dev/null) == "$("$1" -c "$base")" ]]
}

# .venv sees the packages of Python $1 behind its own.
borrow_packages() {
  local site
  site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  "$1" - >"$site/borrowed.pth" <<'PYTHON'
import sys
for folder in sys.path:
    if folder.endswith(("site-packages", "dist-packages")):
        print(f"import site; site.addsitedir({folder!r})")
PYTHON
}

# make_environment PYTHON REQUIREMENTS   for each of the two kinds.
make_borrowing_environment() {
  "$1" -m venv .venv
  borrow_packages "$1"
  .venv/bin/python -c 'import torch; print("torch", torch.__version__)'
  # Of the rest, whatever that Python lacks, in any version.
  sed -n 's/==.*//p' "$2" | grep -vx torch >build/requirements-any.txt
  .venv/bin/python -m pip install --disable-pip-version-check -r build/requirements-any.txt
}
make_own_environment() {
  local again=()
  "$1" -m venv .venv
  # An interrupted installation may have left half a package that pip takes for a whole one.
  if [[ -f .venv/unfinished ]]; then again=(--force-reinstall); fi
  touch .venv/unfinished
  .venv/bin/python -m pip install --disable-pip-version-check "${again[@]}" -r "$2"
  rm .venv/unfinished
}

# need_environment REQUIREMENTS   a step that makes .venv fit the file of pinned requirements.
need_environment() {
  local requirements=$1 python kind=own torch wanted
  python=$(find_python)
  [[ -n $python ]] ||
    fail "${TREADLE_PYTHON:-python3} does not suit" "Needed: Python 3.11 or newer with the" \
      "modules venv and ensurepip and with its C headers (Python.h)."
  torch=$(sed -n 's/^torch==//p' "$requirements")
  if [[ -n $TREADLE_PYTHON ]]; then
    kind=borrowing
    torch=$(torch_version_of "$python")
    [[ -n $torch ]] || fail "TREADLE_PYTHON=$TREADLE_PYTHON has no torch" \
      "Install torch there, or leave TREADLE_PYTHON out: torch then goes into .venv."
  fi
  wanted="$kind $python torch $torch $(sha256sum <"$requirements")"
  if stamped .venv/stamp "$wanted"; then
    step_done "Python packages (torch $torch)"
    return
  fi
  if [[ -e .venv ]] && { ! same_base "$python" || [[ -f .venv/stamp &&
    $(cut -d ' ' -f 1,2 .venv/stamp) != "$kind $python" ]]; }; then
    say "      .venv was made by another Python; making it anew"
    rm -rf .venv
  fi
  rm -f .venv/stamp .venv/stamp-treadle
  step python "Python packages (torch $torch; about 3 minutes and 6 GB the first time)" \
    "Is the package index within reach, and is there room?  df -h ." \
    "make_${kind}_environment" "$python" "$requirements"
  printf '%s\n' "$wanted" >.venv/stamp
}

# A hash over all that goes into the Python package: names and contents.
sources_hash() {
  find CMakeLists.txt pyproject.toml README.md LICENSE cmake core transport collectives \
    compression scheduling parameter_server bench plugins -type f -not -name '*.pyc' -print0 \
    2>/dev/null | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
}

# The compiler of build/release, under the same name, so that ccache has most of the work done.
install_package() {
  CXX=${CXX:-c++} .venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps \
    --force-reinstall -v .
}

# need_package   a step that installs the Python package, if a source has changed since.
need_package() {
  local wanted
  wanted="$(sources_hash) for $(<.venv/stamp)"
  if stamped .venv/stamp-treadle "$wanted"; then
    step_done "Python package treadle"
    return
  fi
  rm -f .venv/stamp-treadle
  step package "Python package treadle (about 2 minutes the first time)" \
    "If this is no defect of the sources: rm -rf build/wheel, then repeat." install_package
  printf '%s\n' "$wanted" >.venv/stamp-treadle
}
