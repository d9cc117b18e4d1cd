# Makes the target deltaserve_flashinfer where the CUDA device is compiled in and DELTASERVE_FLASHINFER is ON: the headers of
# FlashInfer and of the CUTLASS and CCCL that it is written for, as those of the system, so that none of our warnings
# apply to them. They come in a Python wheel, pinned in tools/flashinfer.txt, which is taken once for a build folder.
#
# Without it kernels/cuda compiles no_libraries.cc in place of the kernels that need it, and says so when they are asked for.

option(DELTASERVE_FLASHINFER "Compile FlashInfer's and CUTLASS's kernels in beside our own (preset cuda)" ON)
set(DELTASERVE_FLASHINFER_WHEEL "" CACHE FILEPATH "The wheel that tools/flashinfer.txt names, where it cannot be downloaded")
if(NOT DELTASERVE_CUDA_DEVICE)
  return()
endif()
if(NOT DELTASERVE_FLASHINFER)
  message(STATUS "CUDA: DELTASERVE_FLASHINFER is OFF; left out: the attention of FlashInfer and the products of "
                 "CUTLASS (no_libraries.cc is compiled)")
  return()
endif()

set(requirement ${PROJECT_SOURCE_DIR}/tools/flashinfer.txt)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${requirement})
file(STRINGS ${requirement} pin REGEX "^[^#]")
if(NOT pin MATCHES "^([a-z-]+)==([^ ]+) --hash=sha256:([0-9a-f]+)$")
  message(FATAL_ERROR "${requirement} is not one line NAME==VERSION --hash=sha256:HASH")
endif()
set(package "${CMAKE_MATCH_1} ${CMAKE_MATCH_2}")
set(hash ${CMAKE_MATCH_3})
set(remedy "download it elsewhere by 'python3 -m pip download --no-deps --require-hashes -r tools/flashinfer.txt' and give "
           "it by -DDELTASERVE_FLASHINFER_WHEEL=FILE, or build without it by -DDELTASERVE_FLASHINFER=OFF")
string(CONCAT remedy ${remedy})
string(SUBSTRING ${hash} 0 12 folder)
set(folder ${PROJECT_BINARY_DIR}/flashinfer/${folder})

# Unpacked beside and renamed: a folder of that name is whole.
if(NOT IS_DIRECTORY ${folder})
  set(wheel "${DELTASERVE_FLASHINFER_WHEEL}")
  if(NOT wheel)
    file(REMOVE_RECURSE ${PROJECT_BINARY_DIR}/flashinfer/download)
    message(STATUS "CUDA: downloading ${package}, 62 MB")
    set(downloads ${PROJECT_BINARY_DIR}/flashinfer/download)
    execute_process(
      COMMAND python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes
              --dest ${downloads} --requirement ${requirement}
      RESULT_VARIABLE failed
      ERROR_VARIABLE said)
    if(failed)
      message(FATAL_ERROR "${package} could not be downloaded (python3 -m pip, Debian's python3-pip): ${failed}: ${said}\n${remedy}")
    endif()
    file(GLOB wheel ${downloads}/*.whl)
  endif()
  if(NOT EXISTS "${wheel}")
    message(FATAL_ERROR "DELTASERVE_FLASHINFER_WHEEL is ${wheel}: no such file; ${remedy}")
  endif()
  file(SHA256 ${wheel} found)
  if(NOT found STREQUAL hash)
    message(FATAL_ERROR "${wheel} has the SHA-256 ${found}, and tools/flashinfer.txt names ${hash}: it is not ${package}; ${remedy}")
  endif()
  file(REMOVE_RECURSE ${folder}.part)
  file(ARCHIVE_EXTRACT INPUT ${wheel} DESTINATION ${folder}.part
       PATTERNS "flashinfer/data/include/*" "flashinfer/data/cccl/*" "flashinfer/data/cutlass/include/*"
                "flashinfer/data/cutlass/tools/util/include/*" "*.dist-info/*")
  file(RENAME ${folder}.part ${folder})
  file(REMOVE_RECURSE ${PROJECT_BINARY_DIR}/flashinfer/download)
endif()

add_library(deltaserve_flashinfer INTERFACE)
# Its CCCL before the toolkit's, which is a newer one than FlashInfer compiles with.
target_include_directories(
  deltaserve_flashinfer SYSTEM
  INTERFACE ${folder}/flashinfer/data/cccl/libcudacxx/include ${folder}/flashinfer/data/cccl/thrust
            ${folder}/flashinfer/data/cccl/cub ${folder}/flashinfer/data/include
            ${folder}/flashinfer/data/cutlass/include ${folder}/flashinfer/data/cutlass/tools/util/include)
message(STATUS "CUDA: kernels of ${package}")
