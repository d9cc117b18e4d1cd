#include "worker/gpu.h"

#include <algorithm>

namespace deltaserve {

int GpuOrdinal(const RankInfo& info, int ranks_per_gpu) { return info.local_rank / ranks_per_gpu; }

int64_t GpuShare(int64_t free, int ranks_per_gpu) {
  return std::max<int64_t>(free / ranks_per_gpu - kGpuReserve, 0);
}

std::string ModelOfDevice(const std::string& device_name) {
  const size_t begin = device_name.find('(');
  const size_t end = device_name.rfind(')');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return device_name;
  return device_name.substr(begin + 1, end - begin - 1);
}

}  // namespace deltaserve
