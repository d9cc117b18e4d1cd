// The warp's matrix functions: what the last lane to arrive makes of all lanes' registers.

#include "kernels/base/check.h"
#include "kernels/cuda/shim/device_code_shim.h"

namespace deltaserve::cuda::shim {
namespace {

constexpr int kM = 16;
constexpr int kN = 8;
constexpr int kK = 16;

// Elements [lane / 4][2 (lane % 4), + 1] of four 8 x 8 matrices whose rows the lanes name.
void Make(Exchange& exchange, bool transposed) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4;
    const int t = lane % 4;
    uint32_t r[4];
    for (int matrix = 0; matrix < 4; ++matrix) {
      const auto element = [&exchange, matrix](int row, int column) {
        return static_cast<const bf16*>(Given<const void*>(exchange, matrix * 8 + row))[column]
            .bits;
      };
      const uint32_t low = transposed ? element(2 * t, g) : element(g, 2 * t);
      const uint32_t high = transposed ? element(2 * t + 1, g) : element(g, 2 * t + 1);
      r[matrix] = low | high << 16;
    }
    std::memcpy(exchange.made[lane], r, sizeof(r));
  }
}

}  // namespace

void MakeMma(Exchange& exchange) {
  float a[kM][kK];
  float b[kK][kN];
  float d[kM][kN] = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto given = Given<MmaOperands>(exchange, lane);
    const int g = lane / 4;
    const int t = 2 * (lane % 4);
    for (int i = 0; i < 4; ++i) {
      const float2 pair = UnpackBf16(given.a[i]);
      const int row = g + i % 2 * 8;
      const int column = t + i / 2 * 8;
      a[row][column] = pair.x;
      a[row][column + 1] = pair.y;
    }
    for (int i = 0; i < 2; ++i) {
      const float2 pair = UnpackBf16(given.b[i]);
      b[t + i * 8][g] = pair.x;
      b[t + i * 8 + 1][g] = pair.y;
    }
  }
  for (int m = 0; m < kM; ++m) {
    for (int k = 0; k < kK; ++k) {
      for (int n = 0; n < kN; ++n) d[m][n] += a[m][k] * b[k][n];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4;
    const int t = 2 * (lane % 4);
    const MmaResult result = {{d[g][t], d[g][t + 1], d[g + 8][t], d[g + 8][t + 1]}};
    std::memcpy(exchange.made[lane], &result, sizeof(result));
  }
}

void MakeMatrices(Exchange& exchange) { Make(exchange, false); }
void MakeMatricesTransposed(Exchange& exchange) { Make(exchange, true); }

void LoadMatrices(uint32_t (&r)[4],
                  const bf16* row,
                  const char* function,
                  void (*make)(Exchange& exchange),
                  Where at) {
  CheckAligned16(function, row, at);
  const void* address = row;
  const Exchange& exchange = WarpCall(function, &address, sizeof(address), make, at);
  std::memcpy(r, exchange.made[Lane()], sizeof(r));
}

void CheckAligned16(const char* function, const void* address, Where at) {
  DS_CHECK(reinterpret_cast<uintptr_t>(address) % 16 == 0)
      << function << " at " << at.file << ":" << at.line << ": " << address
      << " is not aligned to 16 bytes";
}

}  // namespace deltaserve::cuda::shim
