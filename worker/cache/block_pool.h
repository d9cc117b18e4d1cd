#pragma once

// BlockPool: which KV blocks are free, and how many hold each of the others. Host only, pure.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"

namespace deltaserve {

// Blocks that `tokens` positions take.
inline int64_t NumBlocks(int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

// Engine thread of rank 0. Owner: Scheduler.
class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);

  // Appends `count` blocks to `blocks`, each with one reference, or takes none and returns false.
  bool Allocate(int64_t count, std::vector<int32_t>* blocks);

  // One more holder of each block. Checked: none is free.
  void Share(std::span<const int32_t> blocks);

  // One holder fewer of each; the last one frees it. Checked: none is free.
  void Release(std::span<const int32_t> blocks);

  int64_t num_blocks() const { return static_cast<int64_t>(references_.size()); }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }
  int32_t references(int32_t block) const { return references_[static_cast<size_t>(block)]; }

 private:
  int32_t& Held(int32_t block);

  std::vector<int32_t> references_;  // 0 = free
  std::vector<int32_t> free_;        // the next is at the back
};

}  // namespace deltaserve
