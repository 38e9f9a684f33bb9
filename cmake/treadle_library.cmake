# libtreadle: everything but plugins, tools and tests. A new source file in one of these folders is
# part of it without a change here.
find_package(fmt 9 REQUIRED)
find_package(Threads REQUIRED)

set(layers core transport collectives compression scheduling parameter_server)
set(sources "")
set(headers "")
foreach(layer IN LISTS layers)
  file(GLOB_RECURSE layer_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${layer}/*.cc)
  file(GLOB_RECURSE layer_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${layer}/*.h)
  list(APPEND sources ${layer_sources})
  list(APPEND headers ${layer_headers})
endforeach()

add_library(treadle SHARED ${sources})
add_library(treadle::treadle ALIAS treadle)
target_sources(
  treadle PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${headers})
target_compile_features(treadle PUBLIC cxx_std_20)
# fmt is compiled in, so that the library runs where no libfmt is installed.
target_link_libraries(treadle PUBLIC fmt::fmt-header-only Threads::Threads
                              PRIVATE ${CMAKE_DL_LIBS})
# Before 1.0 every minor version may change the interface. No VERSION: one file, no links, since
# Python packages cannot hold links.
set_target_properties(
  treadle PROPERTIES SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
                     VERIFY_INTERFACE_HEADER_SETS ON)

# For C++ programs: find_package(treadle), target treadle::treadle.
set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/treadle)
install(
  TARGETS treadle EXPORT treadle_targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cpp NAMELINK_COMPONENT cpp
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/treadle COMPONENT cpp)
install(EXPORT treadle_targets NAMESPACE treadle:: DESTINATION ${config_folder} COMPONENT cpp)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/treadle-config.cmake DESTINATION ${config_folder}
        COMPONENT cpp)
