#pragma once

// TensorView: memory that someone else owns, with dtype and shape. Buffer: one owned allocation.

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/tensor/dtype.h"

namespace deltaserve {

// Up to four dimensions, row-major and contiguous. A value: copy it freely. The memory is on the
// device that allocated it; as<T>() may be dereferenced on the host only where
// Device::HostAddressable().
class TensorView {
 public:
  static constexpr int kMaxRank = 4;

  TensorView() = default;
  TensorView(void* data, DType dtype, std::initializer_list<int64_t> shape);

  void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  int64_t dim(int i) const {
    DS_CHECK(i >= 0 && i < rank_) << "dimension " << i << " of " << ToString();
    return shape_[static_cast<size_t>(i)];
  }
  // Product of all dimensions; 0 for a default-constructed view.
  int64_t numel() const { return numel_; }
  size_t bytes() const { return static_cast<size_t>(numel_) * DTypeSize(dtype_); }

  template <typename T>
  T* as() const {
    DS_CHECK(DTypeOf<T>::value == dtype_) << ToString();
    return static_cast<T*>(data_);
  }

  // View of `count` entries of the first dimension from `begin`.
  TensorView Rows(int64_t begin, int64_t count) const;
  // Entry `index` of the first dimension, one dimension fewer. Rank 2 to 4 only.
  TensorView Row(int64_t index) const;
  // The same elements under another shape of equal numel.
  TensorView Reshape(std::initializer_list<int64_t> shape) const;

  // "F32[3, 128]"
  std::string ToString() const;

 private:
  void* data_ = nullptr;
  int64_t numel_ = 0;
  std::array<int64_t, kMaxRank> shape_{};
  int rank_ = 0;
  DType dtype_ = DType::kF32;
};

// One owned allocation; frees it by the function that its maker gave. Movable, not copyable.
class Buffer {
 public:
  using Free = std::function<void(void*)>;

  Buffer() = default;
  Buffer(void* data, size_t bytes, Free free, bool host_addressable = true)
      : data_(data), bytes_(bytes), host_addressable_(host_addressable), free_(std::move(free)) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { Reset(); }

  // Host memory aligned to 64 bytes, not initialised; aligned to 2 MiB with huge pages advised when
  // large.
  static Buffer AllocateHost(size_t bytes);

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }
  // Whether the host may dereference data().
  bool host_addressable() const { return host_addressable_; }

  // A view of the start of the buffer; the shape must fit.
  TensorView View(DType dtype, std::initializer_list<int64_t> shape) const;

 private:
  void Reset();

  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool host_addressable_ = true;
  Free free_;
};

}  // namespace deltaserve
