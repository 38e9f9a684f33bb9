// Python's interpreter lock around waits and joins in destructors.
#pragma once
#include <Python.h>

namespace treadle {

// Lets go of the interpreter lock, if this thread holds it, while it lives. A destructor may run
// with the lock or without it, and must not wait under it for a thread that wants it.
class WithoutGil {
 public:
  WithoutGil() : state_(held() ? PyEval_SaveThread() : nullptr) {}
  ~WithoutGil() {
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  // At the end of the interpreter no other thread can get the lock any more, and letting go of it
  // could end this thread.
  static bool held() { return Py_IsInitialized() != 0 && PyGILState_Check() != 0; }

  PyThreadState* state_;
};

}  // namespace treadle
