#pragma once

// NarrowDevice: a device of f32 as one whose numerics are narrower, for tests of what has to work
// on both.

#include <memory>

#include "kernels/device.h"

namespace deltaserve::reference {

// As strict as a GPU: a tensor of another dtype than `numerics` gives its role is a failed check,
// and the host may not address the memory. Tensors are widened before an op of `device`, and what
// it gives is rounded once: the only error besides the device's. Calls are done when they return,
// as those of `device` are.
std::unique_ptr<Device> CreateNarrowDevice(std::unique_ptr<Device> device,
                                           const Numerics& numerics = kBF16Numerics);

}  // namespace deltaserve::reference
