#include "kernels/cpu/control_groups.h"

#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace deltaserve::cpu {

std::vector<ControlGroup> ControlGroups(const std::string& controller, const std::string& root) {
  std::vector<ControlGroup> groups;
  std::ifstream file(absl::StrCat(root, "/proc/self/cgroup"));
  for (std::string line; std::getline(file, line);) {  // "0::/path" or "N:memory:/path"
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || !absl::StartsWith(parts[2], "/")) continue;
    const bool unified = parts[1].empty();
    if (!unified && parts[1] != controller) continue;
    const std::string tree =
        absl::StrCat(root, "/sys/fs/cgroup", unified ? "" : "/", unified ? "" : controller);
    groups.push_back({tree, unified});
    for (std::string path = parts[2]; path.size() > 1; path.resize(path.rfind('/'))) {
      groups.push_back({tree + path, unified});
    }
  }
  return groups;
}

}  // namespace deltaserve::cpu
