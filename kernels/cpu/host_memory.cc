#include "kernels/cpu/host_memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/cpu/control_groups.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

int64_t MemTotal(const std::string& root) {
  std::ifstream file(absl::StrCat(root, "/proc/meminfo"));
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t kilobytes = 0;
    if (words.size() >= 2 && words[0] == "MemTotal:" && absl::SimpleAtoi(words[1], &kilobytes)) {
      return kilobytes * 1024;
    }
  }
  return kUnknown;
}

// The number in a file of one; kUnknown for "max", or where there is no such file.
int64_t Limit(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  int64_t bytes = 0;
  return file >> word && absl::SimpleAtoi(word, &bytes) ? bytes : kUnknown;
}

int64_t GroupLimits(const std::string& root) {
  int64_t least = kUnknown;
  for (const ControlGroup& group : ControlGroups("memory", root)) {
    least = std::min(least,
                     Limit(absl::StrCat(group.folder,
                                        group.unified ? "/memory.max" : "/memory.limit_in_bytes")));
  }
  return least;
}

int64_t AddressSpace() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnknown;
  return static_cast<int64_t>(std::min<uint64_t>(limit.rlim_cur, uint64_t{kUnknown}));
}

}  // namespace

int64_t MostMemory(int processes, const std::string& root) {
  return std::min(std::min(MemTotal(root), GroupLimits(root)) / processes, AddressSpace());
}

}  // namespace deltaserve::cpu
