#pragma once

// WeightPacker: takes loaded weights by name and puts them on the device in the form that layers
// use.

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "worker/checkpoint/weight_loader.h"

namespace deltaserve {

// A tensor that owns its memory.
struct DeviceTensor {
  Buffer memory;
  TensorView view;
};

// Loading thread. Errors are those of WeightLoader::Take, Device::Allocate and Ops::Pack*.
class WeightPacker {
 public:
  WeightPacker(WeightLoader& loader, Device& device) : loader_(loader), device_(device) {}

  absl::StatusOr<std::unique_ptr<LinearWeight>> Linear(const std::string& name);
  // The weight of a head that is the table too; `table` outlives the result.
  absl::StatusOr<std::unique_ptr<LinearWeight>> TiedHead(const DeviceTensor& table);
  absl::StatusOr<std::unique_ptr<ExpertWeights>> Experts(const std::string& gate_up,
                                                         const std::string& down);
  // The stored values, widened to f32.
  absl::StatusOr<DeviceTensor> F32(const std::string& name) { return Vector(name, 0.0F); }
  // 1 + w, formed in f32: norms are stored zero-centred (spec 3.2).
  absl::StatusOr<DeviceTensor> ZeroCentredNorm(const std::string& name) {
    return Vector(name, 1.0F);
  }
  // The table as stored (BF16 or F32) for Ops::Embed.
  absl::StatusOr<DeviceTensor> Table(const std::string& name);
  // f32 values that no file holds.
  absl::StatusOr<DeviceTensor> Upload(const std::vector<float>& values);

  bool Has(const std::string& name) const { return loader_.Has(name); }
  Device& device() { return device_; }

  // Bytes of weights packed so far.
  size_t bytes() const { return bytes_; }

 private:
  absl::StatusOr<DeviceTensor> Vector(const std::string& name, float offset);

  WeightLoader& loader_;
  Device& device_;
  size_t bytes_ = 0;
};

}  // namespace deltaserve
