#pragma once

// SharedSegment: memory that all ranks of one host see.

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/comm/world.h"

namespace deltaserve {

// Anonymous memory of the kernel (memfd) that has no name in any file system, so nothing is left of
// it when the last of its ranks has ended, however that was. Owner: what exchanges data through it.
class SharedSegment {
 public:
  // Collective over `world`; on failure every rank gets the same status: UNAVAILABLE, naming the
  // rank that could not map the memory, and why. Zeroed; `bytes` > 0, the same on every rank. Pages
  // are taken as they are first touched.
  static absl::StatusOr<std::unique_ptr<SharedSegment>> Create(World& world, size_t bytes);

  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  void* data() const { return data_; }  // page-aligned
  size_t bytes() const { return bytes_; }

 private:
  SharedSegment(void* data, size_t bytes) : data_(data), bytes_(bytes) {}

  void* const data_;
  const size_t bytes_;
};

}  // namespace deltaserve
