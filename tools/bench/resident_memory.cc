#include "tools/bench/resident_memory.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "kernels/base/check.h"

namespace deltaserve::bench {
namespace {

// A field of /proc/self/status, which gives kB.
int64_t StatusBytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kilobytes = -1;
  while (kilobytes < 0 && status >> word) {
    if (word == field) status >> kilobytes;
  }
  DS_CHECK_GE(kilobytes, 0) << "/proc/self/status has no " << field;
  return kilobytes * 1024;
}

}  // namespace

ResidentMemory::ResidentMemory() : most_(StatusBytes("VmHWM:")) {}

void ResidentMemory::Note(int64_t bytes) { most_ = std::max(most_, StatusBytes("VmRSS:") - bytes); }

}  // namespace deltaserve::bench
