#include "kernels/cpu/control_groups.h"

#include <algorithm>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace deltaserve::cpu {

std::vector<ControlGroup> ControlGroups(const std::string& controller, const std::string& root) {
  std::vector<ControlGroup> groups;
  std::ifstream file(absl::StrCat(root, "/proc/self/cgroup"));
  for (std::string line; std::getline(file, line);) {  // "0::/path" or "N:cpu,cpuacct:/path"
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || !absl::StartsWith(parts[2], "/")) continue;
    const bool unified = parts[1].empty();
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (!unified && std::count(controllers.begin(), controllers.end(), controller) == 0) continue;
    // A tree of several controllers may be found by all their names or by each.
    std::vector<std::string> trees = {unified ? "" : "/" + controller};
    if (controllers.size() > 1) trees.push_back("/" + parts[1]);
    for (const std::string& tree : trees) {
      const std::string top = absl::StrCat(root, "/sys/fs/cgroup", tree);
      groups.push_back({top, unified});
      for (std::string path = parts[2]; path.size() > 1; path.resize(path.rfind('/'))) {
        groups.push_back({top + path, unified});
      }
    }
  }
  return groups;
}

}  // namespace deltaserve::cpu
