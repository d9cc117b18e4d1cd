#pragma once

// The gated delta rule of one value head: one token at a time, and up to 64 at a time.

#include <cstdint>

#include "kernels/ops.h"

namespace deltaserve::cpu {

// Up to kBlockTokens rows of one sequence as one value head sees them, in scratch.
struct DeltaRows {
  int64_t count = 0;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
  int64_t value_stride = 0;            // of v and out; PaddedValueDim(value_dim)
  float* q = nullptr;                  // f32 [kBlockTokens, dk], normalised and scaled
  float* k = nullptr;                  // f32 [kBlockTokens, dk], normalised
  float* v = nullptr;                  // f32 [kBlockTokens, dv], zeros from dv to value_stride
  float* out = nullptr;                // f32 [kBlockTokens, dv]; what is past dv may be written
  float log_decay[kBlockTokens] = {};  // g
  float beta[kBlockTokens] = {};
};

int64_t PaddedValueDim(int64_t value_dim);

// The rule of specification 3.5.6, row by row. state: f32 [dk, dv], in and out. Asks memory for
// next_state, which has state's size and is read soon.
void DeltaRecurrent(const DeltaRows& rows, float* state, const float* next_state);

// f32 elements of scratch of a chunk.
int64_t DeltaChunkScratch(int64_t key_dim);

// The first part of the rule of specification 3.5.7, of q and k alone: value heads of one key head
// share it. Writes scratch.
void PrepareDeltaChunk(const DeltaRows& rows, float* scratch);

// The rest, for one value head, on PrepareDeltaChunk's scratch. state: f32 [dk, dv], in and out.
// The bits of a row depend on the state and the chunk's rows up to it. W and U are not formed: with
// V' = U - W S the triangular system is solved for V' alone.
void DeltaChunk(const DeltaRows& rows, float* scratch, float* state);

}  // namespace deltaserve::cpu
