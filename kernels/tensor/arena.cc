#include "kernels/tensor/arena.h"

#include <algorithm>

namespace deltaserve {

TensorView Arena::Allocate(DType dtype, std::initializer_list<int64_t> shape) {
  constexpr size_t kAlignment = 256;
  TensorView view(nullptr, dtype, shape);
  const size_t bytes = (view.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  void* data = nullptr;
  if (frozen_) {
    DS_CHECK_LE(used_ + bytes, block_.bytes()) << "scratch for " << view.ToString();
    data = static_cast<char*>(block_.data()) + used_;
  } else if (bytes > 0) {
    loose_.push_back(allocate_(bytes));
    data = loose_.back().data();
  }
  used_ += bytes;
  high_water_ = std::max(high_water_, used_);
  return TensorView(data, dtype, shape);
}

void Arena::Freeze() {
  DS_CHECK(!frozen_ && used_ == 0) << used_ << " bytes are in use";
  block_ = allocate_(high_water_);
  frozen_ = true;
}

void Arena::Thaw() {
  DS_CHECK(frozen_ && used_ == 0) << used_ << " bytes are in use";
  block_ = Buffer();
  frozen_ = false;
}

void Arena::Release(size_t used, size_t num_loose) {
  used_ = used;
  if (!frozen_) loose_.resize(num_loose);
}

}  // namespace deltaserve
