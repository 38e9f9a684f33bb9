# The torch module, and the Python package that holds it. Targets: _treadle_torch_<major>_<minor>.
#
# No find_package(Torch): for a CUDA wheel it demands a CUDA toolkit. Headers, libraries and the
# ABI are read from the installed wheel instead. There is no rpath to torch: `import torch` comes
# first, and the loader then has its libraries by name.
set(Python_EXECUTABLE ${TREADLE_TORCH_PYTHON})
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)

execute_process(
  COMMAND
    ${CMAKE_COMMAND} -E env TORCH_DEVICE_BACKEND_AUTOLOAD=0 ${Python_EXECUTABLE} -c
    "import os, torch; print(os.path.dirname(torch.__file__), int(torch._C._GLIBCXX_USE_CXX11_ABI), torch.__version__, sep=';')"
  OUTPUT_VARIABLE torch_facts
  ERROR_VARIABLE torch_error
  RESULT_VARIABLE torch_failed
  OUTPUT_STRIP_TRAILING_WHITESPACE)
if(torch_failed)
  message(FATAL_ERROR
    "${Python_EXECUTABLE} cannot import torch, which the torch module is built against:\n"
    "${torch_error}\n"
    "Install torch there first. With pip, build without isolation, since an isolated build does "
    "not see it: pip install --no-build-isolation .")
endif()
list(GET torch_facts 0 torch_folder)
list(GET torch_facts 1 torch_abi)
list(GET torch_facts 2 torch_version)
string(REGEX MATCH "^([0-9]+)\\.([0-9]+)" torch_minor "${torch_version}")
string(REPLACE "." "_" torch_minor "${torch_minor}")
message(STATUS "torch ${torch_version} in ${torch_folder}, C++11 ABI ${torch_abi}")

add_library(torch_wheel INTERFACE)
target_include_directories(
  torch_wheel SYSTEM BEFORE INTERFACE ${torch_folder}/include
                                      ${torch_folder}/include/torch/csrc/api/include)
target_link_directories(torch_wheel INTERFACE ${torch_folder}/lib)
target_link_libraries(torch_wheel INTERFACE c10 torch_cpu torch_python)
target_compile_definitions(torch_wheel INTERFACE _GLIBCXX_USE_CXX11_ABI=${torch_abi}
                                                 TORCH_API_INCLUDE_EXTENSION_H)

set(package_folder ${PROJECT_SOURCE_DIR}/plugins/torch)
file(GLOB_RECURSE shim_sources CONFIGURE_DEPENDS ${package_folder}/*.cc)
if(NOT shim_sources)
  message(WARNING "no sources in plugins/torch: the torch module is left out")
  return()
endif()
set(shim _treadle_torch_${torch_minor})
Python_add_library(${shim} MODULE WITH_SOABI ${shim_sources})
# The wheel brings its own pybind11, which must win over any other one.
target_link_libraries(${shim} PRIVATE torch_wheel treadle)
target_compile_definitions(${shim} PRIVATE TORCH_EXTENSION_NAME=${shim}
                                           TREADLE_VERSION="${PROJECT_VERSION}")
set_target_properties(${shim} PROPERTIES CXX_VISIBILITY_PRESET hidden INSTALL_RPATH "$ORIGIN")

# The package: pure Python, the library beside the module that needs it, and the tools.
install(DIRECTORY ${package_folder}/treadle/ DESTINATION treadle COMPONENT python
        FILES_MATCHING PATTERN "*.py" PATTERN "py.typed" PATTERN "__pycache__" EXCLUDE)
install(FILES ${package_folder}/_treadle_autoload.py DESTINATION . COMPONENT python OPTIONAL)
install(TARGETS ${shim} LIBRARY DESTINATION treadle COMPONENT python)
install(TARGETS treadle LIBRARY DESTINATION treadle COMPONENT python NAMELINK_SKIP)
foreach(tool IN LISTS TREADLE_TOOL_NAMES)
  install(TARGETS ${tool} RUNTIME DESTINATION treadle/bin COMPONENT python)
  if(SKBUILD)
    configure_file(${PROJECT_SOURCE_DIR}/cmake/tool_script.py.in
                   ${CMAKE_BINARY_DIR}/scripts/${tool} @ONLY)
    install(PROGRAMS ${CMAKE_BINARY_DIR}/scripts/${tool} DESTINATION ${SKBUILD_SCRIPTS_DIR}
            COMPONENT python)
  endif()
endforeach()
