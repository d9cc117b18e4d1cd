#pragma once

// __shared__: arrays of a block's shared memory. Blocks run one after the other, so they are static.
// They lie together and are filled anew before each block; with AddressSanitizer they keep a place
// of their own instead, where it sees accesses beyond them.

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

namespace deltaserve::cuda::shim {

// Sets every byte of all such arrays, where they lie together.
void FillSharedArrays(int byte);

}  // namespace deltaserve::cuda::shim
