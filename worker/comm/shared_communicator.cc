#include "worker/comm/shared_communicator.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "worker/comm/host_communicator.h"
#include "worker/comm/shared_rounds.h"
#include "worker/comm/shared_segment.h"

namespace deltaserve {
namespace {

// Slices begin at multiples of so many elements, a cache line.
constexpr size_t kSliceGrain = 16;
// Parts of all ranks that are read as fast as slices are exchanged; measured with 4 ranks.
constexpr size_t kOneShotPartsBytes = size_t{128} << 10;
constexpr size_t kPieceFloats = kSharedPieceBytes / sizeof(float);

size_t BufferBytes(int ranks) { return static_cast<size_t>(ranks) * kSharedPieceBytes; }

class SharedCommunicator final : public HostCommunicator {
 public:
  SharedCommunicator(
      std::unique_ptr<SharedSegment> segment, void* memory, int rank, int size, Device& device)
      : HostCommunicator(rank, size, device),
        segment_(std::move(segment)),
        rounds_(memory, rank, size, BufferBytes(size)),
        rank_(static_cast<size_t>(rank)),
        ranks_(static_cast<size_t>(size)) {}

  std::string Name() const override { return size() == 1 ? "single" : "shared"; }

 private:
  void SumInRankOrder(float* inout, size_t count) override {
    for (size_t begin = 0; begin < count; begin += kPieceFloats) {
      float* const piece = inout + begin;
      const size_t length = std::min(kPieceFloats, count - begin);
      if (IsOneShot(length)) {
        AddInRankOrder(ShareParts(piece, length), length, size(), length, piece);
      } else {
        std::memcpy(piece, ShareSums(piece, length), length * sizeof(float));
      }
    }
  }

  // Where the tensor is one piece, it is added and normalised as it is read.
  TensorView SumOrParts(TensorView partial) override {
    const auto count = static_cast<size_t>(partial.numel());
    const int64_t rows = partial.dim(0);
    const int64_t width = partial.dim(1);
    if (count > kPieceFloats) {
      SumInRankOrder(partial.as<float>(), count);
      return partial;
    }
    if (!IsOneShot(count)) {
      return {ShareSums(partial.as<float>(), count), DType::kF32, {rows, width}};
    }
    return {ShareParts(partial.as<float>(), count), DType::kF32, {size(), rows, width}};
  }

  bool IsOneShot(size_t count) const { return count * sizeof(float) <= OneShotBytes(size()); }

  // The parts of all ranks: f32 [size, count], to be read until the next round.
  float* ShareParts(const float* part, size_t count) {
    auto* const parts = reinterpret_cast<float*>(rounds_.Begin());
    std::memcpy(parts + rank_ * count, part, count * sizeof(float));
    rounds_.Publish(count * sizeof(float));
    rounds_.AwaitAll();
    return parts;
  }

  // The sums, of which each rank has added a slice: f32 [count], to be read until the next round.
  float* ShareSums(const float* part, size_t count) {
    const float* const parts = ShareParts(part, count);
    const size_t share = (count + ranks_ - 1) / ranks_;
    const size_t slice = (share + kSliceGrain - 1) / kSliceGrain * kSliceGrain;
    const size_t begin = std::min(count, rank_ * slice);
    const size_t end = std::min(count, begin + slice);
    auto* const sums = reinterpret_cast<float*>(rounds_.Begin());
    AddInRankOrder(parts + begin, count, size(), end - begin, sums + begin);
    rounds_.Publish(count * sizeof(float));
    rounds_.AwaitAll();
    return sums;
  }

  void AllGatherBytes(const void* in, void* out, size_t bytes) override {
    ForPieces(bytes, kSharedPieceBytes, [&](size_t begin, size_t length) {
      const std::byte* const parts = SharePiece(in, begin, length);
      rounds_.AwaitAll();
      CopyParts(parts, length, out, begin, bytes);
    });
  }

  void GatherBytes(const void* in, void* out, size_t bytes, int root) override {
    ForPieces(bytes, kSharedPieceBytes, [&](size_t begin, size_t length) {
      const std::byte* const parts = SharePiece(in, begin, length);
      if (rank() != root) return;
      rounds_.AwaitAll();
      CopyParts(parts, length, out, begin, bytes);
    });
  }

  void BroadcastBytes(void* inout, size_t bytes, int root) override {
    ForPieces(bytes, BufferBytes(size()), [&](size_t begin, size_t length) {
      std::byte* const shared = rounds_.Begin();
      std::byte* const mine = static_cast<std::byte*>(inout) + begin;
      if (rank() == root) std::memcpy(shared, mine, length);
      rounds_.Publish(length);
      if (rank() == root) return;
      rounds_.Await(root);
      std::memcpy(mine, shared, length);
    });
  }

  void ExchangeGrewTo(size_t /*bytes*/) override {}  // the pieces are of one size

  template <typename Body>
  static void ForPieces(size_t bytes, size_t piece, Body body) {
    for (size_t begin = 0; begin < bytes; begin += piece) {
      body(begin, std::min(piece, bytes - begin));
    }
  }

  // Publishes bytes [begin, begin + length) of `in` as this rank's part of [size, length].
  const std::byte* SharePiece(const void* in, size_t begin, size_t length) {
    std::byte* const parts = rounds_.Begin();
    std::memcpy(parts + rank_ * length, static_cast<const std::byte*>(in) + begin, length);
    rounds_.Publish(length);
    return parts;
  }

  // parts: [size, length], to out[:, begin : begin + length]; out: [size, bytes].
  void CopyParts(
      const std::byte* parts, size_t length, void* out, size_t begin, size_t bytes) const {
    for (size_t r = 0; r < ranks_; ++r) {
      std::memcpy(static_cast<std::byte*>(out) + r * bytes + begin, parts + r * length, length);
    }
  }

  const std::unique_ptr<SharedSegment> segment_;  // null where the memory is another's
  SharedRounds rounds_;
  const size_t rank_;
  const size_t ranks_;
};

}  // namespace

size_t OneShotBytes(int ranks) {
  return ranks <= 2 ? kSharedPieceBytes : kOneShotPartsBytes / static_cast<size_t>(ranks);
}

size_t SharedCommunicatorBytes(int ranks) {
  return SharedRounds::BytesFor(ranks, BufferBytes(ranks));
}

std::unique_ptr<Communicator> CreateSharedCommunicator(void* memory,
                                                       int rank,
                                                       int size,
                                                       Device& device) {
  return std::make_unique<SharedCommunicator>(nullptr, memory, rank, size, device);
}

absl::StatusOr<std::unique_ptr<Communicator>> CreateSharedCommunicator(World& world,
                                                                       Device& device) {
  const RankInfo& info = world.info();
  if (info.local_size != info.size) {
    return absl::UnavailableError(
        absl::StrCat(info.local_size, " of ", info.size, " ranks are on ", info.host));
  }
  DS_ASSIGN_OR_RETURN(std::unique_ptr<SharedSegment> segment,
                      SharedSegment::Create(world, SharedCommunicatorBytes(info.size)));
  void* const memory = segment->data();
  return std::make_unique<SharedCommunicator>(std::move(segment), memory, info.rank, info.size,
                                              device);
}

}  // namespace deltaserve
