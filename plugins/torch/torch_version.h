// Which minor version of torch this shim is compiled against. Its c10d classes change between
// minors and have no feature macros for most of it.
#pragma once
#if __has_include(<torch/headeronly/version.h>)
#include <torch/headeronly/version.h>
#else
#include <torch/version.h>
#endif

static_assert(TORCH_VERSION_MAJOR == 2, "a new major version of torch: read its Backend.hpp first");

#if TORCH_VERSION_MINOR >= 14
#define TREADLE_SINCE_2_14(code) code
#else
#define TREADLE_SINCE_2_14(code)
#endif
