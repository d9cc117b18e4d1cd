# Headers that most files of a kind include, compiled once for all of them: they are most of the time
# that a small file takes to compile.

# What a target must be compiled with to take them; the same in every target of a kind.
set(DELTASERVE_HEADER_OPTIONS -pthread)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # The first is for ccache, which else does not cache what uses such headers. The others: gcc 12
  # forgets that what is in them is the system's and warns, wrongly, of the inside of std::string.
  list(APPEND DELTASERVE_HEADER_OPTIONS -fpch-preprocess -Wno-array-bounds -Wno-restrict
              -Wno-stringop-overflow -Wno-stringop-overread)
endif()
# How tests are compiled, not what they test: they run for seconds and are many to compile.
set(DELTASERVE_TEST_OPTIONS -Og ${DELTASERVE_HEADER_OPTIONS})

# deltaserve_headers(NAME OPTIONS ... DEPS lib ... HEADERS <a> ...): the target whose headers others
# reuse by target_precompile_headers(... REUSE_FROM NAME).
function(deltaserve_headers name)
  cmake_parse_arguments(ARG "" "" "OPTIONS;DEPS;HEADERS" ${ARGN})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${name}.cc)
  file(TOUCH ${source})
  add_library(${name} STATIC ${source})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} deltaserve_warnings)
  target_compile_options(${name} PRIVATE ${ARG_OPTIONS})
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
endfunction()
