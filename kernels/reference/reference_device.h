#pragma once

// The scalar twin of every op: plain loops over the formulas of ops.h and the model specification,
// with sums in double. Slow, and not tuned for anything but being read. Linked by tests only.

#include <memory>

#include "kernels/device.h"

namespace deltaserve::reference {

// Host memory; calls are done when they return; one thread. Tensors of the roles that `numerics`
// makes bf16 are widened before an op and what it gives is rounded once: a device that no other
// error comes from.
std::unique_ptr<Device> CreateReferenceDevice(const Numerics& numerics = kF32Numerics);

}  // namespace deltaserve::reference
