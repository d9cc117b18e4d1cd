#pragma once

// The catalogue of all arithmetic: what is computed, with formula and shapes per op.
// Section numbers are those of the model specification in docs (spec 3 = maths).
//
// Every op: one engine thread, enqueued on the device's queue, all tensors on that device, outputs
// never alias inputs unless said. Shapes that the device cannot do are failed checks here; what a
// model may ask for is refused earlier by Supports(). Rows are independent: a row's bits depend on
// no other row and not on how many there are (promise 2 of the numerics page), for one device and
// one instruction set.
//
// dtypes: `act`, `kv` and `reduction` are those that the device's Numerics give these roles (f32
// everywhere on the CPU); the others are what they are on every device. Sums are in f32 or wider.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/quantization.h"
#include "kernels/tensor/arena.h"
#include "kernels/tensor/tensor_view.h"

namespace deltaserve {

// Positions per KV block, per chunk of the delta rule and per state snapshot; prefill is cut only
// here.
inline constexpr int64_t kBlockTokens = 64;

// A linear layer's weight in whatever layout the device wants. Made by Ops::PackLinear.
class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  virtual int64_t out_features() const = 0;
  virtual int64_t in_features() const = 0;
  virtual size_t bytes() const = 0;
};

// The experts that this rank holds. Made by Ops::PackExperts.
class ExpertWeights {
 public:
  virtual ~ExpertWeights() = default;
  virtual int64_t num_experts() const = 0;
  virtual size_t bytes() const = 0;
};

// Sizes that a model needs, for Ops::Supports.
struct ModelShape {
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;
  int64_t linear_key_head_dim = 0;
  int64_t linear_value_head_dim = 0;
  int64_t linear_conv_kernel_dim = 0;
  // in_features, the most of a weight that may be quantised.
  int64_t quantized_depth = 0;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  // 0 in a model without experts.
  int64_t num_experts = 0;  // of the model
  int64_t top_k = 0;
  int64_t expert_width = 0;  // of an expert's part on this rank
};

// What the memory of a rank's ops depends on; 0 where its model has no such layer.
struct OpSizes {
  int64_t num_heads = 0;  // of attention
  int64_t num_kv_heads = 0;
  int64_t conv_channels = 0;  // of Gated DeltaNet
  int64_t num_value_heads = 0;
  int64_t num_experts = 0;  // held here
  int64_t top_k = 0;
  int64_t hidden = 0;
  int64_t expert_width = 0;
  int64_t vocab_rows = 0;   // of the whole vocabulary
  int64_t decode_rows = 0;  // the most of a step
};

// Bytes that one op takes from the arena in a step: `fixed`, and the others as many times as the
// step has of them.
struct OpScratch {
  int64_t fixed = 0;
  int64_t per_decode_row = 0;
  int64_t per_chunk_row = 0;
  int64_t per_chunk = 0;  // of a sequence
};

struct MemoryNeeds {
  bool packs_tables = true;  // PackTable's result has memory of its own, where tables are bf16
  OpScratch attention = {};
  OpScratch gated_delta_net = {};
  OpScratch experts = {};
  int64_t per_sampled_row = 0;  // of Sample and LogProbs
};

// The rows of one step. Order is always [decode rows][chunk rows, ragged]: sequence s owns rows
// [row_begin[s], row_begin[s+1]); the first num_decode sequences are decodes (recurrent rule), the
// rest are prefill chunks whose first position is a multiple of kBlockTokens (chunked rule).
struct RowBatch {
  int64_t num_rows = 0;
  int64_t num_sequences = 0;
  int64_t num_decode = 0;       // sequences
  int64_t num_decode_rows = 0;  // rows of those
  TensorView ids;               // i32 [num_rows]
  TensorView positions;         // i32 [num_rows]
  TensorView row_sequence;      // i32 [num_rows]
  TensorView row_begin;         // i32 [num_sequences + 1]
  TensorView slot;              // i32 [num_sequences], row of block_table
  TensorView state;             // i32 [num_sequences], index of the recurrent and conv state
  TensorView block_table;  // i32 [num_slots, max_blocks], KV block of each 64 positions of a slot
};

// Builds RowBatch arrays from the slot table (on the device, so that a plan names no token and no
// position). decode rows d: ids = last_token[decode_slot[d]], position = length[decode_slot[d]].
// chunk c: ids = chunk_ids[...], positions = chunk_start[c] + 0..len-1. Blocks that slots have got
// since are put into out->block_table.
struct BuildRowsArgs {
  int64_t num_decode = 0;
  int64_t num_chunks = 0;
  TensorView slot_length;      // i32 [num_slots] tokens already in cache and state
  TensorView slot_last_token;  // i32 [num_slots]
  TensorView slot_state;       // i32 [num_slots]
  TensorView sequence_slot;    // i32 [num_decode + num_chunks]
  TensorView chunk_start;      // i32 [num_chunks]
  TensorView chunk_begin;      // i32 [num_chunks + 1] offsets into chunk_ids
  TensorView chunk_ids;        // i32 [sum of chunk lengths]
  TensorView new_entry = {};   // i32 [new blocks], each once: slot * max_blocks + index
  TensorView new_block = {};   // i32 [new blocks]: block_table's value there
  RowBatch* out = nullptr;     // its views are filled in; counts and block_table are the caller's
};

// out[r] = table[ids[r] - first_row], zeros where that is out of range (vocabulary-parallel; then
// all-reduce).
struct EmbedArgs {
  TensorView ids;    // i32 [rows]
  TensorView table;  // bf16 or f32 [local vocabulary rows, hidden]
  int64_t first_row = 0;
  TensorView out;  // reduction [rows, hidden]
};

// out = x * rsqrt(mean(x^2) + eps) * weight; weight is already 1 + w (spec 3.2).
struct RmsNormArgs {
  TensorView x;       // f32 [rows, hidden]
  TensorView weight;  // f32 [hidden]
  float eps = 0;
  TensorView out;  // act [rows, hidden], may be x where that is f32 too
};

// residual += delta; out = RmsNorm(residual). A delta of three dimensions has parts, added in order
// first: ((d0 + d1) + d2) + ..., the sums of ranks as they lie in memory of the host, in f32.
struct AddRmsNormArgs {
  TensorView delta;     // reduction or f32 [rows, hidden], or f32 [parts, rows, hidden]
  TensorView residual;  // f32 [rows, hidden], in and out
  TensorView weight;    // f32 [hidden]
  float eps = 0;
  TensorView out;  // act [rows, hidden], may be a delta of two dimensions and the same dtype
};

// out = x . W^T
struct LinearArgs {
  TensorView x;  // act [rows, in]
  const LinearWeight* weight = nullptr;
  TensorView out;  // act, reduction or f32 [rows, out]
};

// Gated DeltaNet without its projections: conv + SiLU, l2norm, gates, delta rule, gated norm
// (spec 3.5.2-3.5.9). Conv channels are [q of all key heads | k of all key heads | v of all value
// heads], all local to the rank; value head h uses key head h / (num_value_heads / num_key_heads).
// States are read and advanced in place.
struct GatedDeltaNetArgs {
  int64_t num_key_heads = 0;
  int64_t num_value_heads = 0;
  int64_t key_head_dim = 0;
  int64_t value_head_dim = 0;
  float eps = 0;  // of the gated norm
  const RowBatch* rows = nullptr;
  TensorView qkv;          // act [rows, 2 Hk dk + Hv dv]
  TensorView z;            // act [rows, Hv dv]
  TensorView b;            // act [rows, Hv]
  TensorView a;            // act [rows, Hv]
  TensorView conv_weight;  // f32 [channels, kernel]
  TensorView a_log;        // f32 [Hv]
  TensorView dt_bias;      // f32 [Hv]
  TensorView norm_weight;  // f32 [dv], plain w
  TensorView conv_state;   // f32 [num_states, kernel - 1, channels], oldest row first; in and out
  TensorView recurrent_state;  // f32 [num_states, Hv, dk, dv]; in and out
  TensorView out;              // act [rows, Hv dv]
};

// q and k norm (weights already 1 + w), rotary, and the write of k and v into the cache (spec 3.4).
// Angles are position * inv_frequency rounded to f32, as the reference implementations round them.
struct AttentionPrepareArgs {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;
  float eps = 0;
  const RowBatch* rows = nullptr;
  TensorView qg;             // act [rows, num_heads, 2 head_dim], per head q then gate
  TensorView k;              // act [rows, num_kv_heads, head_dim]
  TensorView v;              // act [rows, num_kv_heads, head_dim]
  TensorView q_norm;         // f32 [head_dim]
  TensorView k_norm;         // f32 [head_dim]
  TensorView inv_frequency;  // f32 [rotary_dim / 2]
  TensorView q_out;          // act [rows, num_heads, head_dim], normed and rotated, not scaled
  TensorView k_cache;  // kv [num_blocks, num_kv_heads, kBlockTokens, head_dim]; written at the
                       // rows' positions
  TensorView v_cache;  // as k_cache
};

// Causal softmax attention over the paged cache, scale head_dim^-0.5, output times sigmoid(gate).
// Row r sees cache positions 0..positions[r] of its slot. Splits of 256 positions, merged in order.
struct AttentionArgs {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  const RowBatch* rows = nullptr;
  TensorView q;        // act [rows, num_heads, head_dim]
  TensorView qg;       // act [rows, num_heads, 2 head_dim], for the gate half
  TensorView k_cache;  // kv [num_blocks, num_kv_heads, kBlockTokens, head_dim]
  TensorView v_cache;  // as k_cache
  TensorView out;      // act [rows, num_heads * head_dim]
};

// out = silu(gate) * up
struct SiluMulArgs {
  TensorView gate_up;  // act [rows, 2 width], gate then up
  TensorView out;      // act [rows, width]
};

// p = softmax(logits); the top_k largest, ties to the lowest index, in ascending order of expert;
// weights divided by their sum where normalize (spec 3.7).
struct RouteExpertsArgs {
  TensorView logits;  // f32 [rows, num_experts]
  bool normalize = true;
  TensorView experts;  // i32 [rows, top_k]
  TensorView weights;  // f32 [rows, top_k]
};

// out[r] = sum over chosen experts e held here, ascending, of weights * down_e(silu(gate_e x) *
// up_e x)
//        + shared[r] * sigmoid(shared_gate[r]).
struct ExpertsArgs {
  TensorView x;        // act [rows, hidden]
  TensorView experts;  // i32 [rows, top_k], ids over all experts of the model
  TensorView weights;  // f32 [rows, top_k]
  const ExpertWeights* expert_weights = nullptr;
  int64_t first_expert = 0;  // id of the first expert held here
  TensorView
      shared;  // act [rows, hidden]; default-constructed where the model has no shared expert
  TensorView shared_gate;  // act [rows, 1]
  TensorView out;          // reduction [rows, hidden]
};

// out[i] = x[rows[i]]
struct GatherRowsArgs {
  TensorView x;     // act or f32 [n, width]
  TensorView rows;  // i32 [m]
  TensorView out;   // as x [m, width]
};

// Parameters of sampling, one entry a scored row. The random key of token id is
// (seed, sample_index, token_index, id): nothing of batch, rank or step enters.
struct SampleParams {
  TensorView temperature;   // f32 [rows]; 0 = greedy
  TensorView top_k;         // i32 [rows]; <= 0 = off
  TensorView top_p;         // f32 [rows]; 1 = off
  TensorView min_p;         // f32 [rows]; 0 = off
  TensorView seed;          // u64 [rows]
  TensorView sample_index;  // u32 [rows]
  TensorView token_index;   // u32 [rows], index of the token to be generated
};

// Greedy and pure temperature need only the best of each rank: value = logit (greedy) or
// logit / temperature + Gumbel(key, id); ties to the lowest id; ids >= num_tokens are never chosen.
// A rank without real ids gives value -inf and id INT32_MAX.
struct SampleLocalArgs {
  TensorView logits;  // f32 [rows, local vocabulary rows]
  int64_t first_id = 0;
  int64_t num_tokens = 0;
  const SampleParams* params = nullptr;
  TensorView value;  // f32 [rows]
  TensorView id;     // i32 [rows]
};

// Whole rows: p = softmax(logits / temperature) over real ids; top_k, then top_p, then min_p (each
// over what the one before left, renormalised), then argmax of log p + Gumbel among those kept. The
// most likely id is always kept. With all filters off the same token as SampleLocal. Order of
// filters as in vLLM. A row without a number (all NaN) gives INT32_MAX, as SampleLocal does.
struct SampleArgs {
  TensorView logits;  // f32 [rows, vocabulary rows]
  int64_t num_tokens = 0;
  const SampleParams* params = nullptr;
  TensorView id;  // i32 [rows]
};

// Log-softmax of raw logits over real ids: of one id a row with its rank (1 = most likely; ties
// counted as less likely), of the num_top most likely, ties to the lowest id, and of ids that a row
// names: those of row r are named_id[named_begin[r] .. named_begin[r + 1]).
struct LogProbsArgs {
  TensorView logits;  // f32 [rows, vocabulary rows]
  int64_t num_tokens = 0;
  TensorView id;             // i32 [rows]
  TensorView logprob;        // f32 [rows]
  TensorView rank;           // i32 [rows]
  TensorView top_id;         // i32 [rows, num_top]
  TensorView top_logprob;    // f32 [rows, num_top]
  TensorView named_begin;    // i32 [rows + 1], ascending from 0
  TensorView named_id;       // i32 [named], real ids
  TensorView named_logprob;  // f32 [named]
};

// What requests change of whole rows before a token is sampled, in place. An entry is an id of a
// row and appears once; x is its logit. In the order of vLLM:
//   x += bias
//   x = x > 0 ? x / repetition : x * repetition, where the id is `seen` (in prompt or answer)
//   x -= frequency * count + (count > 0 ? presence : 0), with the id's count in the answer
struct PenalizeArgs {
  TensorView logits;      // f32 [rows, vocabulary rows]
  TensorView row;         // i32 [entries]
  TensorView id;          // i32 [entries]
  TensorView seen;        // i32 [entries], 0 or 1
  TensorView count;       // i32 [entries]
  TensorView bias;        // f32 [entries]
  TensorView repetition;  // f32 [rows]
  TensorView frequency;   // f32 [rows]
  TensorView presence;    // f32 [rows]
};

// -inf in place of the logits of ids whose bit is 0: bit id % 32 of word id / 32. Ids beyond the
// words stay as they are.
struct MaskLogitsArgs {
  TensorView logits;  // f32 [rows, vocabulary rows]
  TensorView row;     // i32 [masked rows], each once
  TensorView mask;    // u32 [masked rows, words]
};

// The sampled rows of a step become their slots' last tokens, which the next step's BuildRows
// reads. The id of row r is forced[r] where that is not negative; else, of the first rows, of which
// `pairs` tells, the id of the largest value, of equal ones the first rank's, -1 where no value is
// above -inf; else what `id` holds.
struct StoreSampledArgs {
  TensorView pairs;  // i32 [ranks, 2, merged rows]: the bits of SampleLocal's values, then its ids;
                     // default-constructed where no row is merged
  TensorView forced;           // i32 [rows]
  TensorView slot;             // i32 [rows], each once
  TensorView id;               // i32 [rows], in and out
  TensorView slot_last_token;  // i32 [num_slots]
};

// Random weights: out[r, c] = scale * (mean + deviation * x) + offset, x = StandardNormal(key,
// first + r * stride + c) of random_weights.h, each operation rounded once, then to out's dtype:
// the same bits on every device.
struct FillNormalArgs {
  uint64_t key = 0;
  int64_t first = 0;
  int64_t stride = 0;
  float mean = 0;
  float deviation = 1;
  float scale = 1;
  float offset = 0;
  TensorView out = {};  // bf16 or f32 [rows, columns]
};

class Ops {
 public:
  virtual ~Ops() = default;

  // OK, or UNIMPLEMENTED naming the size that this device lacks and those that it has.
  virtual absl::Status Supports(const ModelShape& shape) const = 0;

  // What ops will take from the arena, but for padding and arrays of a few bytes a row; nothing on
  // a device whose ops take a little for each of its threads.
  virtual MemoryNeeds Memory(const OpSizes& sizes) const = 0;

  // weight: bf16 or f32 [out, in] in host memory, or bf16 in this device's; taken over or copied.
  // Called while loading only. What `precision` allows is done where the device was made to
  // (CpuOptions). RESOURCE_EXHAUSTED, as of all that pack, where the device has no memory for it.
  virtual absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(Buffer weight,
                                                                   DType dtype,
                                                                   int64_t out_features,
                                                                   int64_t in_features,
                                                                   Precision precision) = 0;
  // The same of an embedding table, where ops read it (EmbedArgs::table). It stays there, for
  // longer than the result, which has memory of its own only where products want another layout.
  virtual absl::StatusOr<std::unique_ptr<LinearWeight>> PackTable(TensorView table,
                                                                  Precision precision) = 0;
  // gate_up: [num_experts, 2 width, hidden], gate rows first; down: [num_experts, hidden, width].
  // Both lie where PackLinear's may. They may be quantised.
  virtual absl::StatusOr<std::unique_ptr<ExpertWeights>> PackExperts(Buffer gate_up,
                                                                     Buffer down,
                                                                     DType dtype,
                                                                     int64_t num_experts,
                                                                     int64_t hidden,
                                                                     int64_t width) = 0;

  virtual void FillNormal(const FillNormalArgs& args) = 0;

  // Scratch, where an op needs it, comes from `arena` and is given back before the op returns.
  virtual void BuildRows(const BuildRowsArgs& args) = 0;
  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void RmsNorm(const RmsNormArgs& args) = 0;
  virtual void AddRmsNorm(const AddRmsNormArgs& args) = 0;
  virtual void Linear(const LinearArgs& args, Arena& arena) = 0;
  virtual void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena) = 0;
  virtual void AttentionPrepare(const AttentionPrepareArgs& args) = 0;
  virtual void Attention(const AttentionArgs& args, Arena& arena) = 0;
  virtual void SiluMul(const SiluMulArgs& args) = 0;
  virtual void RouteExperts(const RouteExpertsArgs& args) = 0;
  virtual void Experts(const ExpertsArgs& args, Arena& arena) = 0;
  virtual void GatherRows(const GatherRowsArgs& args) = 0;
  virtual void SampleLocal(const SampleLocalArgs& args) = 0;
  virtual void Penalize(const PenalizeArgs& args) = 0;
  virtual void MaskLogits(const MaskLogitsArgs& args) = 0;
  virtual void Sample(const SampleArgs& args, Arena& arena) = 0;
  virtual void LogProbs(const LogProbsArgs& args, Arena& arena) = 0;
  virtual void StoreSampled(const StoreSampledArgs& args) = 0;
};

}  // namespace deltaserve
