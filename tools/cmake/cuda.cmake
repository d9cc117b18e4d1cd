# Sets DELTASERVE_NVCC (nvcc is there and wanted) and DELTASERVE_CUDA_DEVICE (the CUDA device is
# compiled in). Folders that differ with and without CUDA choose their sources by the second one and
# say no more about it: kernels/cuda compiles no_cuda.cc and worker/comm no_nccl.cc where it is OFF.

set(DELTASERVE_NVCC OFF)
set(DELTASERVE_CUDA_DEVICE OFF)
if(NOT DELTASERVE_CUDA)
  return()
endif()

find_program(DELTASERVE_NVCC_PATH nvcc HINTS /usr/local/cuda/bin)
if(NOT DELTASERVE_NVCC_PATH)
  message(STATUS "CUDA: no nvcc on PATH nor in /usr/local/cuda/bin; left out: the CUDA device "
                 "(no_cuda.cc is compiled) and the NCCL communicator (no_nccl.cc is compiled)")
  return()
endif()

set(CMAKE_CUDA_COMPILER ${DELTASERVE_NVCC_PATH})
set(CMAKE_CUDA_ARCHITECTURES 90a)
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
enable_language(CUDA)
if(CMAKE_VERSION VERSION_LESS 3.25.2)
  # This CMake does not know that nvcc takes C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(DELTASERVE_NVCC ON)
# What ptxas says of registers is kept beside each object.
set(CMAKE_CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/tools/cmake/nvcc_keep_resources.py)
if(DELTASERVE_CCACHE)
  list(APPEND CMAKE_CUDA_COMPILER_LAUNCHER ${DELTASERVE_CCACHE})
endif()
# Our warnings where they say something of our code: nvcc splits a file into two and writes one anew.
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Xptxas=-v;-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Wshadow>")
find_package(CUDAToolkit REQUIRED)

file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu)
if(cuda_sources)
  set(DELTASERVE_CUDA_DEVICE ON)
  message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
else()
  message(STATUS "CUDA: nvcc ${CMAKE_CUDA_COMPILER_VERSION} found, but kernels/cuda holds no .cu "
                 "file; left out: the CUDA device (no_cuda.cc is compiled) and the NCCL "
                 "communicator (no_nccl.cc is compiled)")
endif()
