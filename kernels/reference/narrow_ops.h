#pragma once

// The ops of a reference device whose numerics are not all f32.

#include <memory>

#include "kernels/ops.h"

namespace deltaserve::reference {

// `ops`, given f32 copies of bf16 tensors; their outputs are rounded once. `ops` must stay.
std::unique_ptr<Ops> CreateNarrowOps(Ops& ops);

}  // namespace deltaserve::reference
