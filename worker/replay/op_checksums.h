#pragma once

// OpChecksums: what each op of a step put out, as one checksum an op, so that a replay can name the
// op in which it first differs.

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/device.h"

namespace deltaserve {

// The ops of kernels/ops.h that compute, in its order. The numbers are part of recordings.
enum class OpKind : uint8_t {
  kBuildRows = 1,
  kEmbed = 2,
  kRmsNorm = 3,
  kAddRmsNorm = 4,
  kLinear = 5,
  kGatedDeltaNet = 6,
  kAttentionPrepare = 7,
  kAttention = 8,
  kSiluMul = 9,
  kRouteExperts = 10,
  kExperts = 11,
  kGatherRows = 12,
  kSampleLocal = 13,
  kPenalize = 14,
  kMaskLogits = 15,
  kSample = 16,
  kLogProbs = 17,
  kStoreSampled = 18,
};
inline constexpr OpKind kFirstOp = OpKind::kBuildRows;
inline constexpr OpKind kLastOp = OpKind::kStoreSampled;

// "AddRmsNorm": the name in kernels/ops.h.
const char* OpName(OpKind kind);

struct OpChecksum {
  OpKind kind = kFirstOp;
  uint64_t checksum = 0;  // of every output, of states and caches those parts that were written
  bool operator==(const OpChecksum&) const = default;
};

// Engine thread. Owner: who made the device below, which it outlives.
class OpChecksums {
 public:
  // Forgets what came before and takes the checksums of all ops from now on.
  void Begin() {
    ops_.clear();
    on_ = true;
  }
  // Those since Begin(), in order; no more are taken.
  std::vector<OpChecksum> Take() {
    on_ = false;
    return std::move(ops_);
  }

  bool on() const { return on_; }
  void Add(OpChecksum op) { ops_.push_back(op); }

 private:
  bool on_ = false;
  std::vector<OpChecksum> ops_;
};

// `device` with ops that leave their checksums in `checksums` while that is on. Each op then waits
// for the device and reads all that it wrote: some percent of a step on a CPU, more on a GPU.
std::unique_ptr<Device> ChecksumDevice(std::unique_ptr<Device> device, OpChecksums& checksums);

}  // namespace deltaserve
