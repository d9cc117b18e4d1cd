# Run at every build (cmake -P): writes OUTPUT from TEMPLATE with the build id, and leaves the file
# alone where nothing changed, so that only a new id recompiles it.
# In: SOURCE_DIR TEMPLATE OUTPUT GIT DS_VERSION DS_COMPILER DS_BUILD_TYPE DS_CUDA

set(DS_BUILD_ID "unknown")
# A .git of its own: a source archive unpacked within another repository must not take that one's id.
if(NOT "$ENV{DELTASERVE_BUILD_ID}" STREQUAL "")  # of whoever builds without the repository: an image
  set(DS_BUILD_ID "$ENV{DELTASERVE_BUILD_ID}")
elseif(GIT AND EXISTS ${SOURCE_DIR}/.git)
  execute_process(
    COMMAND ${GIT} describe --always --dirty --abbrev=12
    WORKING_DIRECTORY ${SOURCE_DIR}
    OUTPUT_VARIABLE described
    OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE failed
    ERROR_QUIET)
  if(NOT failed)
    set(DS_BUILD_ID "${described}")
  endif()
endif()
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
