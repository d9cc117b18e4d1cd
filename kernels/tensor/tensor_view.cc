#include "kernels/tensor/tensor_view.h"

#include <sys/mman.h>

#include <cstdlib>

namespace deltaserve {

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kBF16:
      return "BF16";
    case DType::kI32:
      return "I32";
    case DType::kU32:
      return "U32";
    case DType::kU64:
      return "U64";
    case DType::kU8:
      return "U8";
    case DType::kI8:
      return "I8";
  }
  return "?";
}

TensorView::TensorView(void* data, DType dtype, std::initializer_list<int64_t> shape)
    : data_(data), numel_(1), rank_(static_cast<int>(shape.size())), dtype_(dtype) {
  DS_CHECK_LE(rank_, kMaxRank);
  size_t i = 0;
  for (const int64_t extent : shape) {
    DS_CHECK_GE(extent, 0);
    shape_[i++] = extent;
    numel_ *= extent;
  }
}

TensorView TensorView::Rows(int64_t begin, int64_t count) const {
  DS_CHECK(rank_ >= 1 && begin >= 0 && count >= 0 && begin + count <= shape_[0])
      << "rows [" << begin << ", " << begin + count << ") of " << ToString();
  TensorView view = *this;
  const int64_t row_elements = shape_[0] == 0 ? 0 : numel_ / shape_[0];
  view.shape_[0] = count;
  view.numel_ = row_elements * count;
  view.data_ =
      static_cast<char*>(data_) + static_cast<size_t>(begin * row_elements) * DTypeSize(dtype_);
  return view;
}

TensorView TensorView::Row(int64_t index) const {
  DS_CHECK_GE(rank_, 2) << ToString();
  TensorView view = Rows(index, 1);
  for (size_t i = 1; i < static_cast<size_t>(rank_); ++i) view.shape_[i - 1] = shape_[i];
  --view.rank_;
  return view;
}

TensorView TensorView::Reshape(std::initializer_list<int64_t> shape) const {
  TensorView view(data_, dtype_, shape);
  DS_CHECK_EQ(view.numel_, numel_) << ToString() << " to " << view.ToString();
  return view;
}

std::string TensorView::ToString() const {
  std::string text = DTypeName(dtype_);
  text += "[";
  for (int i = 0; i < rank_; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape_[static_cast<size_t>(i)]);
  }
  return text + "]";
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Reset();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    host_addressable_ = std::exchange(other.host_addressable_, true);
    free_ = std::exchange(other.free_, nullptr);
  }
  return *this;
}

void Buffer::Reset() {
  if (data_ != nullptr && free_) free_(data_);
  data_ = nullptr;
  bytes_ = 0;
  host_addressable_ = true;
  free_ = nullptr;
}

Buffer Buffer::AllocateHost(size_t bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  if (bytes == 0) return Buffer();
  const size_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, rounded);
  DS_CHECK(data != nullptr) << "out of memory: " << bytes << " bytes";
  if (alignment == kHugePage) madvise(data, rounded, MADV_HUGEPAGE);
  return Buffer(data, bytes, [](void* p) { std::free(p); });
}

TensorView Buffer::View(DType dtype, std::initializer_list<int64_t> shape) const {
  TensorView view(data_, dtype, shape);
  DS_CHECK_LE(view.bytes(), bytes_);
  return view;
}

}  // namespace deltaserve
