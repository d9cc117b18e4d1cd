#pragma once

// Writes a safetensors file from generated tensors, without holding more than a few pieces of them.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/thread_pool.h"
#include "kernels/tensor/dtype.h"

namespace deltaserve {

struct TensorToWrite {
  std::string name;
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;
  // Writes elements [first, first + count) to `out`; called from several threads.
  std::function<void(int64_t first, int64_t count, void* out)> fill;
};

// Bytes of data that the file will hold, header not counted.
int64_t DataBytes(const std::vector<TensorToWrite>& tensors);

// Writes the tensors in the order given. The bytes depend on the arguments but not on the pool.
absl::Status WriteSafetensors(const std::string& path,
                              const std::vector<TensorToWrite>& tensors,
                              ThreadPool& pool);

}  // namespace deltaserve
