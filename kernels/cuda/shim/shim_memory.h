#pragma once

// The memory of a shim device: opened while its work runs, closed to the host else.

#include <cstddef>
#include <map>

namespace deltaserve::cuda::shim {

// One thread.
class ShimMemory {
 public:
  // `bytes` full of NaN, aligned to 256 as cudaMalloc does; null where there is no memory.
  void* Allocate(size_t bytes);
  void Free(void* data);

  void Open();
  void Close();

 private:
  std::map<void*, size_t> allocations_;
};

}  // namespace deltaserve::cuda::shim
