#pragma once

// The gated delta rule of one value head: one token at a time, and 64 at a time.

#include <cstdint>

namespace deltaserve::cpu {

// A run of rows of one sequence as one value head sees them. q, k: normalised, q scaled; row
// strides in elements.
struct DeltaRows {
  const float* q = nullptr;  // f32 [rows, dk] at qkv_stride
  const float* k = nullptr;
  const float* v = nullptr;  // f32 [rows, dv] at qkv_stride
  int64_t qkv_stride = 0;
  const float* decay = nullptr;  // g, f32 [rows] at gate_stride: the log of the decay
  const float* beta = nullptr;
  int64_t gate_stride = 0;
  float* out = nullptr;  // f32 [rows, dv] at out_stride
  int64_t out_stride = 0;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
};

// The rule of specification 3.5.6 on row `row`. state: f32 [dk, dv], in and out.
void DeltaRecurrent(const DeltaRows& rows, int64_t row, float* state);

// f32 elements of scratch that DeltaChunk needs.
int64_t DeltaChunkScratch(int64_t key_dim, int64_t value_dim);

// The rule of specification 3.5.7 on rows [begin, begin + count), count <= kBlockTokens. The bits
// of a row depend on the state and the chunk's rows up to it. W and U are not formed: with V' = U -
// W S the triangular system is solved for V' alone.
void DeltaChunk(const DeltaRows& rows, int64_t begin, int64_t count, float* state, float* scratch);

}  // namespace deltaserve::cpu
