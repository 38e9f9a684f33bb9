include(CMakeFindDependencyMacro)
find_dependency(fmt 9)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/treadle_targets.cmake)
