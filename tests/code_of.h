// The code of the Error that `body` throws; a failure of the test if it throws none.
#pragma once
#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"

namespace treadle {

inline ErrorCode code_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kBug;
}

}  // namespace treadle
