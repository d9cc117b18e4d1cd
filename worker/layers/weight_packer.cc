#include "worker/layers/weight_packer.h"

#include <utility>
#include <vector>

#include "kernels/base/status_macros.h"

namespace deltaserve {

absl::StatusOr<std::unique_ptr<LinearWeight>> WeightPacker::Linear(const std::string& name) {
  DS_ASSIGN_OR_RETURN(LocalWeight weight, loader_.Take(name));
  DS_CHECK_EQ(weight.shape.size(), 2U) << name;
  DS_ASSIGN_OR_RETURN(
      auto packed, device_.ops().PackLinear(std::move(weight.data), weight.dtype, weight.shape[0],
                                            weight.shape[1], weight.precision));
  bytes_ += packed->bytes();
  return packed;
}

absl::StatusOr<std::unique_ptr<LinearWeight>> WeightPacker::TiedHead(const DeviceTensor& table) {
  DS_ASSIGN_OR_RETURN(auto packed, device_.ops().PackTable(table.view, Precision::kMayQuantize));
  bytes_ += packed->bytes();
  return packed;
}

absl::StatusOr<std::unique_ptr<ExpertWeights>> WeightPacker::Experts(const std::string& gate_up,
                                                                     const std::string& down) {
  DS_ASSIGN_OR_RETURN(LocalWeight first, loader_.Take(gate_up));
  DS_ASSIGN_OR_RETURN(LocalWeight second, loader_.Take(down));
  DS_CHECK(first.shape.size() == 3 && second.shape.size() == 3) << gate_up;
  if (first.dtype != second.dtype) {
    return absl::InvalidArgumentError(gate_up + " and " + down +
                                      " differ in dtype; convert the checkpoint to one dtype");
  }
  DS_ASSIGN_OR_RETURN(auto packed, device_.ops().PackExperts(
                                       std::move(first.data), std::move(second.data), first.dtype,
                                       first.shape[0], first.shape[2], second.shape[2]));
  bytes_ += packed->bytes();
  return packed;
}

absl::StatusOr<DeviceTensor> WeightPacker::Vector(const std::string& name, float offset) {
  DS_ASSIGN_OR_RETURN(LocalWeight weight, loader_.TakeF32(name));
  const auto* values = static_cast<const float*>(weight.data.data());
  std::vector<float> host(values, values + weight.data.bytes() / sizeof(float));
  for (float& value : host) value += offset;
  return Upload(host);
}

absl::StatusOr<DeviceTensor> WeightPacker::Table(const std::string& name) {
  DS_ASSIGN_OR_RETURN(LocalWeight weight, loader_.Take(name));
  DS_CHECK_EQ(weight.shape.size(), 2U) << name;
  DeviceTensor tensor;
  if (device_.HostAddressable() || !weight.data.host_addressable()) {
    tensor.memory = std::move(weight.data);
    tensor.view = tensor.memory.View(weight.dtype, {weight.shape[0], weight.shape[1]});
  } else {
    DS_ASSIGN_OR_RETURN(tensor.memory, device_.Allocate(weight.data.bytes(), MemoryKind::kDevice));
    tensor.view = tensor.memory.View(weight.dtype, {weight.shape[0], weight.shape[1]});
    device_.CopyToDevice(tensor.view, weight.data.data());
    DS_RETURN_IF_ERROR(device_.Synchronize());
  }
  bytes_ += tensor.view.bytes();
  return tensor;
}

absl::StatusOr<DeviceTensor> WeightPacker::Upload(const std::vector<float>& values) {
  DeviceTensor tensor;
  const size_t bytes = values.size() * sizeof(float);
  DS_ASSIGN_OR_RETURN(tensor.memory, device_.Allocate(bytes, MemoryKind::kDevice));
  tensor.view = tensor.memory.View(DType::kF32, {static_cast<int64_t>(values.size())});
  device_.CopyToDevice(tensor.view, values.data());
  DS_RETURN_IF_ERROR(device_.Synchronize());
  bytes_ += bytes;
  return tensor;
}

}  // namespace deltaserve
