#include "worker/comm/world.h"

#include <sys/random.h>

#include <cstring>

#include "kernels/base/check.h"

namespace deltaserve {

namespace {

bool IsOfAnother(absl::StatusCode code) {
  return code == absl::StatusCode::kDeadlineExceeded || code == absl::StatusCode::kAborted;
}

}  // namespace

void World::Barrier() { AllGather(""); }

absl::Status World::AgreeOnStatus(const absl::Status& mine, int* first_failing) {
  // One byte of code, then the message; nothing where it went well.
  std::string packed;
  if (!mine.ok()) {
    packed.push_back(static_cast<char>(mine.code()));
    packed.append(mine.message().data(), mine.message().size());
  }
  const std::vector<std::string> all = AllGather(packed);
  absl::Status agreed;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].empty()) continue;
    const auto code = static_cast<absl::StatusCode>(all[rank][0]);
    if (!agreed.ok() && (IsOfAnother(code) || !IsOfAnother(agreed.code()))) continue;
    if (first_failing != nullptr) *first_failing = static_cast<int>(rank);
    agreed = absl::Status(code, all[rank].substr(1));
  }
  return agreed;
}

uint64_t World::DrawEpoch() {
  uint64_t epoch = 0;
  if (info().rank == 0) {
    DS_CHECK(getrandom(&epoch, sizeof(epoch), 0) == sizeof(epoch)) << std::strerror(errno);
  }
  const std::string bytes =
      BroadcastFromZero(std::string(reinterpret_cast<const char*>(&epoch), sizeof(epoch)));
  if (bytes.size() == sizeof(epoch)) std::memcpy(&epoch, bytes.data(), sizeof(epoch));
  return epoch;
}

}  // namespace deltaserve
