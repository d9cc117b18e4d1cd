#pragma once

// The scalar twin of every op: plain loops over the formulas of ops.h and the model specification,
// with sums in double. Slow, and not tuned for anything but being read. Linked by tests only.

#include <memory>

#include "kernels/device.h"

namespace deltaserve::reference {

// Host memory; calls are done when they return; one thread.
std::unique_ptr<Device> CreateReferenceDevice();

}  // namespace deltaserve::reference
