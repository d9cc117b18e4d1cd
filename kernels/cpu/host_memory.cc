#include "kernels/cpu/host_memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

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

// The least limit in `group`, a path such as "/a/b", and in all above it. In a container the path
// may be that of the host, of which only the top is to be seen.
int64_t GroupLimit(const std::string& tree, std::string group, const std::string& file) {
  int64_t least = Limit(absl::StrCat(tree, "/", file));
  while (group.size() > 1) {
    least = std::min(least, Limit(absl::StrCat(tree, group, "/", file)));
    group.resize(group.rfind('/'));
  }
  return least;
}

int64_t GroupLimits(const std::string& root) {
  const std::string tree = absl::StrCat(root, "/sys/fs/cgroup");
  std::ifstream file(absl::StrCat(root, "/proc/self/cgroup"));
  int64_t least = kUnknown;
  for (std::string line; std::getline(file, line);) {  // "0::/path" or "N:memory:/path"
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || !absl::StartsWith(parts[2], "/")) continue;
    if (parts[1].empty()) {
      least = std::min(least, GroupLimit(tree, parts[2], "memory.max"));
    } else if (parts[1] == "memory") {
      least = std::min(least, GroupLimit(tree + "/memory", parts[2], "memory.limit_in_bytes"));
    }
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
