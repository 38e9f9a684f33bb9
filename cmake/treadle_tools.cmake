# The command-line tools: one per folder bench/treadle-*/, named like it. A folder without sources
# makes no target.
file(GLOB tool_folders CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/treadle-*)
set(TREADLE_TOOL_NAMES "")
foreach(folder IN LISTS tool_folders)
  file(GLOB_RECURSE tool_sources CONFIGURE_DEPENDS ${folder}/*.cc)
  if(NOT tool_sources)
    continue()
  endif()
  find_package(CLI11 REQUIRED)
  find_package(nlohmann_json REQUIRED)
  cmake_path(GET folder FILENAME tool)
  add_executable(${tool} ${tool_sources})
  target_include_directories(${tool} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${tool} PRIVATE TREADLE_VERSION="${PROJECT_VERSION}")
  target_link_libraries(${tool} PRIVATE treadle CLI11::CLI11 nlohmann_json::nlohmann_json)
  # Beside the library in a Python package, or in a prefix.
  set_target_properties(${tool} PROPERTIES INSTALL_RPATH
                                           "$ORIGIN/..;$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS ${tool} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT cpp)
  list(APPEND TREADLE_TOOL_NAMES ${tool})
endforeach()
