#include "worker/cache/block_pool.h"

#include "kernels/base/check.h"

namespace deltaserve {

BlockPool::BlockPool(int64_t num_blocks) : references_(static_cast<size_t>(num_blocks), 0) {
  free_.reserve(references_.size());
  for (int64_t block = num_blocks; block-- > 0;) free_.push_back(static_cast<int32_t>(block));
}

bool BlockPool::Allocate(int64_t count, std::vector<int32_t>* blocks) {
  DS_CHECK_GE(count, 0);
  if (count > num_free()) return false;
  for (int64_t i = 0; i < count; ++i) {
    blocks->push_back(free_.back());
    free_.pop_back();
    references_[static_cast<size_t>(blocks->back())] = 1;
  }
  return true;
}

int32_t& BlockPool::Held(int32_t block) {
  DS_CHECK(block >= 0 && block < num_blocks()) << "block " << block << " of " << num_blocks();
  int32_t& references = references_[static_cast<size_t>(block)];
  DS_CHECK(references > 0) << "block " << block << " is free";
  return references;
}

void BlockPool::Share(std::span<const int32_t> blocks) {
  for (const int32_t block : blocks) ++Held(block);
}

void BlockPool::Release(std::span<const int32_t> blocks) {
  for (const int32_t block : blocks) {
    if (--Held(block) == 0) free_.push_back(block);
  }
}

}  // namespace deltaserve
