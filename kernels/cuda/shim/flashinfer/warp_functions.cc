#include "kernels/cuda/shim/flashinfer/warp_functions.h"

#include "kernels/base/check.h"

namespace flashinfer {

// What its kernels declare as their dynamic shared memory: as much as a block can have, filled
// anew before each block as other arrays of shared memory are.
alignas(128) uint8_t smem[size_t{227} << 10] __attribute__((section("deltaserve_shared")));

}  // namespace flashinfer

namespace deltaserve::cuda::shim {
namespace {

// An access to 16 bytes beyond what the launch asked for.
void CheckShared(const char* function, const void* address, Where at) {
  const size_t bytes = SharedBytes();
  const auto offset = reinterpret_cast<uintptr_t>(address) -
                      reinterpret_cast<uintptr_t>(static_cast<uint8_t*>(::flashinfer::smem));
  DS_CHECK(offset < bytes && bytes - offset >= 16)
      << function << " at " << at.file << ":" << at.line << ": byte " << offset << " of " << bytes
      << " of shared memory";
}

struct StoreOperands {
  void* row;
  uint32_t r[4];
};

void MakeStores(Exchange& exchange) {
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* row = static_cast<uint32_t*>(Given<StoreOperands>(exchange, lane).row);
    for (int i = 0; i < 4; ++i) {
      row[i] = Given<StoreOperands>(exchange, lane % 8 * 4 + i).r[lane / 8];
    }
  }
}

}  // namespace

void CopyToShared(void* to, const void* from, bool valid, Where at) {
  CheckShared("cp.async", to, at);
  CopyAsync(to, from, valid, at);
}

void StoreMatrices(const uint32_t* r, void* row, Where at) {
  CheckShared("stmatrix", row, at);
  CheckAligned16("stmatrix", row, at);
  const StoreOperands operands = {row, {r[0], r[1], r[2], r[3]}};
  WarpCall("stmatrix", &operands, sizeof(operands), &MakeStores, at);
}

}  // namespace deltaserve::cuda::shim
