#pragma once

// A step's scratch memory: a stack of views in one allocation that is sized by the first (warm-up)
// step.

#include <functional>
#include <vector>

#include "kernels/tensor/tensor_view.h"

namespace deltaserve {

// Until Freeze() every Allocate() is an allocation of its own and the high-water mark is recorded;
// after it all come from one buffer of that size, and asking for more is a failed check, until
// Thaw(). One thread. Contents are not initialised. Memory comes from `allocate` (a Device's, or
// Buffer::AllocateHost).
class Arena {
 public:
  using Allocator = std::function<Buffer(size_t bytes)>;

  explicit Arena(Allocator allocate) : allocate_(std::move(allocate)) {}
  Arena() : Arena(&Buffer::AllocateHost) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Valid until the enclosing ArenaScope ends.
  TensorView Allocate(DType dtype, std::initializer_list<int64_t> shape);

  // Ends warm-up. No view may be live.
  void Freeze();
  // Warm-up goes on, from the mark that was reached. No view may be live.
  void Thaw();

  bool frozen() const { return frozen_; }
  size_t high_water_bytes() const { return high_water_; }
  size_t used_bytes() const { return used_; }

 private:
  friend class ArenaScope;

  void Release(size_t used, size_t num_loose);

  Allocator allocate_;
  Buffer block_;
  std::vector<Buffer> loose_;  // warm-up only
  size_t used_ = 0;
  size_t high_water_ = 0;
  bool frozen_ = false;
};

// Gives back, at its end, all that was allocated since its start.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena)
      : arena_(arena), used_(arena.used_), num_loose_(arena.loose_.size()) {}
  ~ArenaScope() { arena_.Release(used_, num_loose_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  size_t used_;
  size_t num_loose_;
};

}  // namespace deltaserve
