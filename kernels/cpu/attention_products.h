#pragma once

// The two matrix products of attention over one block of the cache: scores of keys, and values
// weighted by them. Many queries share each read of the cache; every score is one chain of fused
// multiply-adds over head_dim in ascending order and every output one over positions, whatever the
// number of queries or keys.

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {

// Queries stand side by side in vectors: their number rounded up to whole vectors.
inline int64_t PaddedQueries(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Query m = row * group + head, for `group` heads [group, head_dim] side by side in each row of q,
// times scale, as ScoreKeys wants them. packed: f32 [PaddedQueries(num_rows * group) * head_dim].
void PackQueries(const float* q,
                 int64_t row_stride,
                 int64_t num_rows,
                 int64_t group,
                 int64_t head_dim,
                 float scale,
                 float* packed);

// scores[t][m] = query m . key t for t < count. k: f32 [kBlockTokens, head_dim], of which keys past
// `count` may be read and their scores written. scores: f32 [kBlockTokens, PaddedQueries(
// num_queries)]. `next`: memory that is wanted after this.
void ScoreKeys(const float* packed,
               int64_t num_queries,
               const float* k,
               int64_t count,
               int64_t head_dim,
               const float* next,
               float* scores);

// out[m][d] += sum over t < count of p[t][m] * v[t][d], for m < num_queries. p: f32 [count,
// p_stride]; v: f32 [count, head_dim]; out: f32 [num_queries, head_dim]. `next`: as above.
void AddValues(const float* p,
               int64_t p_stride,
               int64_t num_queries,
               const float* v,
               int64_t count,
               int64_t head_dim,
               const float* next,
               float* out);

}  // namespace deltaserve::cpu
