#pragma once

// The control groups that limit this process, its own and all above it.

#include <string>
#include <vector>

namespace deltaserve::cpu {

struct ControlGroup {
  std::string folder;
  bool unified = true;  // of the one tree of version 2, else of the controller's own of version 1
};

// Those of `controller` ("memory", "cpu"). In a container the path of a group may be that of the
// host, of which only the top is to be seen: folders need not be there. `root`: of the file system.
std::vector<ControlGroup> ControlGroups(const std::string& controller, const std::string& root);

}  // namespace deltaserve::cpu
