# The kinds of target in this tree. A folder is one library; its name is its path with '_'.

function(deltaserve_folder_name out)
  file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  string(REPLACE "/" "_" name ${path})
  set(${out} ${name} PARENT_SCOPE)
endfunction()

# deltaserve_library([SOURCES a.cc ...] [EXCLUDE b.cc ...] [DEPS lib ...])
# One library from the *.cc of this folder (or SOURCES). DEPS are public: they are the includes allowed.
function(deltaserve_library)
  cmake_parse_arguments(ARG "" "" "SOURCES;EXCLUDE;DEPS" ${ARGN})
  deltaserve_folder_name(name)
  if(NOT ARG_SOURCES)
    file(GLOB ARG_SOURCES CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *.cc)
  endif()
  if(ARG_EXCLUDE)
    list(REMOVE_ITEM ARG_SOURCES ${ARG_EXCLUDE})
  endif()
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE deltaserve_warnings)
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR})
  endif()
endfunction()

# deltaserve_binary(NAME SOURCES a.cc ... DEPS lib ...): bin/deltaserve-NAME
function(deltaserve_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  set(target deltaserve-${name})
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE ${ARG_DEPS} kernels_base deltaserve_warnings)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  set_property(GLOBAL APPEND PROPERTY DELTASERVE_BINARIES ${PROJECT_BINARY_DIR}/bin/${target})
endfunction()

# Makes the test binary `name_test`. Tests find committed data below DELTASERVE_SOURCE_DIR and built
# binaries below DELTASERVE_BIN_DIR.
function(deltaserve_test_target target)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest deltaserve_warnings)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(
    ${target} PRIVATE DELTASERVE_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                      DELTASERVE_BIN_DIR="${PROJECT_BINARY_DIR}/bin")
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
endfunction()

# deltaserve_tests([NAME name] [SOURCES a_test.cc ...] [EXCLUDE ...] [LABEL unit] [TIMEOUT 300] [DEPS lib ...])
# One gtest binary from the *_test.cc of this folder (*_mpi_test.cc left out); ctest sees each TEST.
# LABEL: unit; cuda (needs a GPU); mpi or system (starts worlds, so it runs alone); long (only in
# `tests/run --long`, alone too). NAME tells two calls in one folder apart.
function(deltaserve_tests)
  cmake_parse_arguments(ARG "" "NAME;LABEL;TIMEOUT" "SOURCES;EXCLUDE;DEPS" ${ARGN})
  if(NOT BUILD_TESTING)
    return()
  endif()
  deltaserve_folder_name(name)
  if(ARG_NAME)
    set(name ${name}_${ARG_NAME})
  endif()
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(NOT ARG_SOURCES)
    file(GLOB ARG_SOURCES CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *_test.cc)
    list(FILTER ARG_SOURCES EXCLUDE REGEX "_mpi_test\\.cc$")
  endif()
  if(ARG_EXCLUDE)
    list(REMOVE_ITEM ARG_SOURCES ${ARG_EXCLUDE})
  endif()
  set(alone)
  if(ARG_LABEL MATCHES "^(mpi|system|long)$")
    set(alone RUN_SERIAL TRUE)
  endif()
  deltaserve_test_target(${name}_test SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} GTest::gtest_main)
  gtest_discover_tests(${name}_test DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT} ${alone})
endfunction()

# deltaserve_mpi_tests(RANKS 2 4 [SOURCES a_mpi_test.cc ...] [TIMEOUT 120] [DEPS lib ...])
# One gtest binary from the *_mpi_test.cc of this folder, which brings its own main (MPI_Init, then
# gtest); ctest runs it whole, once for each number of ranks, as `<folder>_mpi_test.N`, label mpi.
function(deltaserve_mpi_tests)
  cmake_parse_arguments(ARG "" "TIMEOUT" "RANKS;SOURCES;DEPS" ${ARGN})
  if(NOT BUILD_TESTING)
    return()
  endif()
  deltaserve_folder_name(name)
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(NOT ARG_SOURCES)
    file(GLOB ARG_SOURCES CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *_mpi_test.cc)
  endif()
  deltaserve_test_target(${name}_mpi_test SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS})
  foreach(ranks ${ARG_RANKS})
    add_test(NAME ${name}_mpi_test.${ranks}
             COMMAND ${PROJECT_SOURCE_DIR}/deploy/mpirun_one_host -n ${ranks}
                     $<TARGET_FILE:${name}_mpi_test>)
    set_tests_properties(${name}_mpi_test.${ranks} PROPERTIES LABELS mpi TIMEOUT ${ARG_TIMEOUT}
                                                              RUN_SERIAL TRUE)
  endforeach()
endfunction()
