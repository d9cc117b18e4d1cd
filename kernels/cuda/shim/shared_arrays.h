#pragma once

// __shared__: arrays of a block's shared memory. Blocks run one after the other, so they are
// static. Those of functions that are no templates lie together (gcc leaves the others where they
// are) and are filled anew before each block; with AddressSanitizer each keeps a place of its own
// instead, where it sees accesses beyond it.

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): CUDA's names
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __shared__ static
#endif
#endif
#ifndef __shared__
#define __shared__ static __attribute__((section("deltaserve_shared")))
#endif
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace deltaserve::cuda::shim {

// Sets every byte of the arrays that lie together.
void FillSharedArrays(int byte);

}  // namespace deltaserve::cuda::shim
