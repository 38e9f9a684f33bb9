# The two commands:   make demo     train across processes with Treadle, on this machine
#                     make test     all tests
# Both set up what they need the first time (some minutes) and start in seconds after that.
# TREADLE_PYTHON=/path/to/python makes them use that Python's torch instead of downloading one.
.PHONY: help demo test check-all bench setup format clean distclean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 4
	@echo "Also: make setup | check-all | bench | format | clean | distclean"

setup:
	@scripts/setup

demo:
	@scripts/demo

test:
	@scripts/test

# Sanitizers, fuzzing, both compilers: about half an hour.
check-all:
	@scripts/check-all

bench: setup
	@cmake --build --preset release --target benchmarks
	@for bench in build/release/bench/*_bench; do echo "== $$bench"; "$$bench" || exit 1; done

format:
	@git ls-files -z '*.cc' '*.h' | xargs -0 clang-format -i

# What was built; the Python environment stays.
clean:
	rm -rf build

distclean: clean
	rm -rf .venv
