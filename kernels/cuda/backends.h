#pragma once

// The functions behind those ops that a device may have from a library, too. Which file implements
// ChooseBackends is CMake's choice: a build without the libraries' headers has no_libraries.cc.

#include "absl/status/statusor.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_options.h"
#include "kernels/cuda/experts.h"

namespace deltaserve::cuda {

// Ops, and what each takes of the arena (Ops::Memory).
struct Backends {
  void (*attention)(const AttentionArgs& args, Arena& arena, Queue& queue) = &Attention;
  OpScratch (*attention_scratch)(const OpSizes& sizes, const Queue& queue) = &AttentionScratch;
  void (*experts)(const ExpertsArgs& args, Arena& arena, Queue& queue) = &Experts;
  OpScratch (*experts_scratch)(const OpSizes& sizes) = &ExpertsScratch;
};

// UNIMPLEMENTED, naming the flag and the remedy, for what this build has not.
absl::StatusOr<Backends> ChooseBackends(const CudaOptions& options);

}  // namespace deltaserve::cuda
