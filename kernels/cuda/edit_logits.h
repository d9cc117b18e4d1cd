#pragma once

// Penalize and MaskLogits on a GPU. Rows and ids lie on the device: one outside the logits is an
// error of the kernel.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// The same bits as on every device: products are rounded before they are added.
void Penalize(const PenalizeArgs& args, Queue& queue);

void MaskLogits(const MaskLogitsArgs& args, Queue& queue);

}  // namespace deltaserve::cuda
