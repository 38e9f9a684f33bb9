# Compiler flags that every target of this project shares.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

# Never fuse a multiplication and an addition behind our back: ranks with different processors or
# compilers must round alike.
add_compile_options(-ffp-contract=off)
add_compile_options(-Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow)
if(TREADLE_WERROR)
  add_compile_options(-Werror)
endif()
if(TREADLE_SANITIZE)
  add_compile_options(-fsanitize=${TREADLE_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${TREADLE_SANITIZE})
  # With thread, GCC's -Wtsan refuses stand-alone fences, which TSan cannot model: the code has none.
  if(TREADLE_SANITIZE MATCHES address AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC 12 loses track of what is initialised in instrumented code, such as its own <regex>. The
    # same code is compiled with the warning, and without instrumentation, by the preset `dev`.
    add_compile_options(-Wno-maybe-uninitialized)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    # Instrumented loops are not vectorised, whatever they ask for.
    add_compile_options(-Wno-pass-failed)
  endif()
endif()

find_program(TREADLE_CCACHE ccache)
mark_as_advanced(TREADLE_CCACHE)
if(TREADLE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TREADLE_CCACHE})
endif()
