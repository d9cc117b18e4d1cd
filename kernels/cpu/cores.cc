#include "kernels/cpu/cores.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cpu/control_groups.h"

namespace deltaserve::cpu {
namespace {

// A quota and its period in microseconds, as cores; 0 where there is no limit ("max", -1) or no
// such file. Version 2 has both in one file.
double CoresOf(const ControlGroup& group) {
  std::ifstream file(group.folder + (group.unified ? "/cpu.max" : "/cpu.cfs_quota_us"));
  std::ifstream second(group.folder + "/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  const bool found = file >> quota && (group.unified ? file : second) >> period;
  return found && quota > 0 && period > 0 ? quota / period : 0;
}

}  // namespace

int CoreQuota(const std::string& root) {
  double least = 0;
  for (const ControlGroup& group : ControlGroups("cpu", root)) {
    const double cores = CoresOf(group);
    if (cores > 0 && (least == 0 || cores < least)) least = cores;
  }
  return static_cast<int>(std::ceil(least));
}

std::vector<int> UsableCores(Affinity affinity) {
  constexpr size_t kFewest = CPU_SETSIZE;
  constexpr size_t kMost = size_t{1} << 20;
  std::vector<int> cores;
  // The kernel refuses a set that is smaller than its own.
  for (size_t count = kFewest; count <= kMost && cores.empty(); count *= 2) {
    const size_t bytes = CPU_ALLOC_SIZE(count);
    cpu_set_t* const set = CPU_ALLOC(count);
    DS_CHECK(set != nullptr) << "out of memory: " << bytes << " bytes";
    if (affinity(0, bytes, set) == 0) {
      for (size_t core = 0; core < count; ++core) {
        if (CPU_ISSET_S(core, bytes, set)) cores.push_back(static_cast<int>(core));
      }
    }
    CPU_FREE(set);
  }
  if (cores.empty()) {  // nothing that may be asked
    const int count = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    for (int core = 0; core < count; ++core) cores.push_back(core);
  }
  return cores;
}

ThreadPlan PlanThreads(int wanted,
                       const std::vector<std::vector<int>>& usable,
                       int index,
                       int quota) {
  const std::vector<int>& mine = usable[static_cast<size_t>(index)];
  int sharers = 0;
  int before = 0;
  bool overlap = false;
  for (size_t i = 0; i < usable.size(); ++i) {
    if (usable[i] == mine) {
      ++sharers;
      if (static_cast<int>(i) < index) ++before;
      continue;
    }
    overlap = overlap || std::any_of(mine.begin(), mine.end(), [&](int core) {
                return std::find(usable[i].begin(), usable[i].end(), core) != usable[i].end();
              });
  }
  DS_CHECK_GE(sharers, 1);  // itself
  const int cores = static_cast<int>(mine.size());
  ThreadPlan plan;
  const int granted = quota > 0 ? std::min(quota, cores) : cores;
  plan.num_threads = wanted > 0 ? wanted : std::max(1, granted / sharers);
  if (!overlap && granted == cores && plan.num_threads * sharers == cores) {
    const auto first = mine.begin() + std::ptrdiff_t{before} * plan.num_threads;
    plan.cores.assign(first, first + plan.num_threads);
  }
  return plan;
}

std::string CoreList(const std::vector<int>& cores) {
  std::string list;
  for (size_t i = 0; i < cores.size();) {
    size_t last = i;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    absl::StrAppend(&list, list.empty() ? "" : ",", cores[i]);
    if (last > i) absl::StrAppend(&list, "-", cores[last]);
    i = last + 1;
  }
  return list;
}

}  // namespace deltaserve::cpu
