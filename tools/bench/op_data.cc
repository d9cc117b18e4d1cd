#include "tools/bench/op_data.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "kernels/base/check.h"

namespace deltaserve::bench {
namespace {

// Values drawn once and repeated: drawing a GiB would take longer than reading it.
constexpr int64_t kDrawn = 1 << 16;

std::vector<float> Draw(int64_t count, float middle, float deviation) {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> even(middle - deviation, middle + deviation);
  std::vector<float> values(static_cast<size_t>(std::min(count, kDrawn)));
  for (float& value : values) value = even(random);
  return values;
}

int64_t Product(std::initializer_list<int64_t> shape) {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

}  // namespace

Buffer OpData::Get(size_t bytes) {
  auto buffer = device_.Allocate(bytes, MemoryKind::kDevice);
  DS_CHECK(buffer.ok()) << std::string(buffer.status().message());
  return *std::move(buffer);
}

TensorView OpData::Keep(Buffer buffer, DType dtype, std::initializer_list<int64_t> shape) {
  buffers_.push_back(std::move(buffer));
  return buffers_.back().View(dtype, shape);
}

TensorView OpData::Empty(DType dtype, std::initializer_list<int64_t> shape) {
  const auto elements = static_cast<size_t>(Product(shape));
  return Keep(Get(elements * DTypeSize(dtype)), dtype, shape);
}

TensorView OpData::Values(DType dtype,
                          std::initializer_list<int64_t> shape,
                          float middle,
                          float deviation) {
  const TensorView view = Empty(dtype, shape);
  const std::vector<float> drawn = Draw(view.numel(), middle, deviation);
  Buffer host = Buffer::AllocateHost(view.bytes());
  for (size_t i = 0; i < static_cast<size_t>(view.numel()); ++i) {
    const float value = drawn[i % drawn.size()];
    if (dtype == DType::kF32) {
      static_cast<float*>(host.data())[i] = value;
    } else {
      static_cast<BFloat16*>(host.data())[i] = ToBFloat16(value);
    }
  }
  device_.CopyToDevice(view, host.data());
  DS_CHECK(device_.Synchronize().ok());
  return view;
}

TensorView OpData::Ints(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
  const TensorView view = Empty(DType::kI32, shape);
  DS_CHECK_EQ(view.numel(), static_cast<int64_t>(values.size()));
  device_.CopyToDevice(view, values.data());
  DS_CHECK(device_.Synchronize().ok());
  return view;
}

Buffer OpData::BFloats(int64_t count, int64_t in_features) {
  const float size = std::sqrt(3.0F / static_cast<float>(in_features));
  std::vector<BFloat16> drawn;
  for (const float value : Draw(count, 0, size)) drawn.push_back(ToBFloat16(value));
  Buffer buffer = Buffer::AllocateHost(static_cast<size_t>(count) * sizeof(BFloat16));
  auto* const to = static_cast<BFloat16*>(buffer.data());
  for (int64_t i = 0; i < count; i += kDrawn) {
    const auto n = static_cast<size_t>(std::min(count - i, kDrawn));
    std::memcpy(to + i, drawn.data(), n * sizeof(BFloat16));
  }
  return buffer;
}

const LinearWeight& OpData::Linear(int64_t out_features, int64_t in_features) {
  auto packed = ops().PackLinear(BFloats(out_features * in_features, in_features), DType::kBF16,
                                 out_features, in_features, Precision::kMayQuantize);
  DS_CHECK(packed.ok()) << std::string(packed.status().message());
  linear_.push_back(*std::move(packed));
  return *linear_.back();
}

const ExpertWeights& OpData::Experts(int64_t num_experts, int64_t hidden, int64_t width) {
  auto packed = ops().PackExperts(BFloats(num_experts * 2 * width * hidden, hidden),
                                  BFloats(num_experts * hidden * width, width), DType::kBF16,
                                  num_experts, hidden, width);
  DS_CHECK(packed.ok()) << std::string(packed.status().message());
  experts_.push_back(*std::move(packed));
  return *experts_.back();
}

const RowBatch& OpData::Rows(const std::vector<OpSequence>& sequences,
                             int64_t num_decode,
                             TensorView block_table) {
  std::vector<int32_t> positions, row_sequence, row_begin = {0}, slot, state;
  RowBatch batch;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const OpSequence& sequence = sequences[s];
    for (int64_t i = 0; i < sequence.rows; ++i) {
      positions.push_back(static_cast<int32_t>(sequence.position + i));
      row_sequence.push_back(static_cast<int32_t>(s));
    }
    row_begin.push_back(static_cast<int32_t>(positions.size()));
    slot.push_back(sequence.slot);
    state.push_back(sequence.state);
    if (static_cast<int64_t>(s) < num_decode) batch.num_decode_rows += sequence.rows;
  }
  batch.num_rows = static_cast<int64_t>(positions.size());
  batch.num_sequences = static_cast<int64_t>(sequences.size());
  batch.num_decode = num_decode;
  batch.ids = Ints(std::vector<int32_t>(positions.size(), 0), {batch.num_rows});
  batch.positions = Ints(positions, {batch.num_rows});
  batch.row_sequence = Ints(row_sequence, {batch.num_rows});
  batch.row_begin = Ints(row_begin, {batch.num_sequences + 1});
  batch.slot = Ints(slot, {batch.num_sequences});
  batch.state = Ints(state, {batch.num_sequences});
  batch.block_table = block_table;
  batches_.push_back(batch);
  return batches_.back();
}

}  // namespace deltaserve::bench
