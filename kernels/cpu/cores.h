#pragma once

// Which cores the threads of the ranks of one host run on.

#include <sched.h>

#include <string>
#include <vector>

namespace deltaserve::cpu {

// The cores that this process may run on, ascending (its affinity, which mpirun, Slurm, taskset and
// containers set). `affinity`: sched_getaffinity's contract.
using Affinity = int (*)(pid_t process, size_t bytes, cpu_set_t* set);
std::vector<int> UsableCores(Affinity affinity = &sched_getaffinity);

// The cores' time that the control groups of this process grant, of either version, rounded up, or
// 0 where they set no limit: a container's limit of CPU does not show in its affinity. `root`: of
// the file system.
int CoreQuota(const std::string& root = "");

struct ThreadPlan {
  int num_threads = 1;
  // The core of each thread, or empty where threads are not pinned.
  std::vector<int> cores;
};

// How many threads the process `index` of a host runs and where. `usable`: what UsableCores() is in
// each process of the host. Processes with equal cores share them evenly; `wanted` 0 takes that
// share, or that of `quota` where it is less (0: none). Threads are pinned only where those
// processes together fill their cores exactly and may use them wholly: else the kernel places
// threads better than we could.
ThreadPlan PlanThreads(int wanted,
                       const std::vector<std::vector<int>>& usable,
                       int index,
                       int quota = 0);

// "0-3,8": cores as Linux writes them.
std::string CoreList(const std::vector<int>& cores);

}  // namespace deltaserve::cpu
