#include "kernels/cuda/shim/shim_memory.h"

#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#define DELTASERVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DELTASERVE_ASAN 1
#endif
#endif

#if defined(DELTASERVE_ASAN)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace deltaserve::cuda::shim {

void* ShimMemory::Allocate(size_t bytes) {
  constexpr size_t kAlignment = 256;
  constexpr int kGarbage = 0xff;
  void* data = nullptr;
  if (posix_memalign(&data, kAlignment, bytes) != 0) return nullptr;
  std::memset(data, kGarbage, bytes);
  ASAN_POISON_MEMORY_REGION(data, bytes);
  allocations_.emplace(data, bytes);
  return data;
}

void ShimMemory::Free(void* data) {
  ASAN_UNPOISON_MEMORY_REGION(data, allocations_.at(data));
  allocations_.erase(data);
  std::free(data);
}

void ShimMemory::Open() {
  for (const auto& [data, bytes] : allocations_) ASAN_UNPOISON_MEMORY_REGION(data, bytes);
}

void ShimMemory::Close() {
  for (const auto& [data, bytes] : allocations_) ASAN_POISON_MEMORY_REGION(data, bytes);
}

}  // namespace deltaserve::cuda::shim
