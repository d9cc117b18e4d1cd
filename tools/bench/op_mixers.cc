// GatedDeltaNet and Attention.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tools/bench/op_groups.h"

namespace deltaserve::bench {
namespace {

constexpr double kFloat = sizeof(float);

// Of the 0.8b model.
constexpr int64_t kHeads = 16, kDk = 128, kDv = 128, kKernel = 4;
constexpr int64_t kChannels = 2 * kHeads * kDk + kHeads * kDv;
constexpr int64_t kStates = 256;  // a MiB each

constexpr int64_t kQueryHeads = 8, kKvHeads = 2, kHeadDim = 256;
constexpr int64_t kDepth = 4096, kSlots = 16;  // 16 MiB of keys and values each

struct DeltaTensors {
  TensorView conv_weight, a_log, dt_bias, norm_weight, conv_state, recurrent_state;
};

OpCase DeltaCase(const std::string& name,
                 OpData& data,
                 const DeltaTensors& tensors,
                 const std::vector<const RowBatch*>& batches) {
  const int64_t rows = batches.front()->num_rows;
  GatedDeltaNetArgs args{.num_key_heads = kHeads,
                         .num_value_heads = kHeads,
                         .key_head_dim = kDk,
                         .value_head_dim = kDv,
                         .eps = 1e-6F,
                         .qkv = data.Act({rows, kChannels}),
                         .z = data.Act({rows, kHeads * kDv}),
                         .b = data.Act({rows, kHeads}),
                         .a = data.Act({rows, kHeads}),
                         .conv_weight = tensors.conv_weight,
                         .a_log = tensors.a_log,
                         .dt_bias = tensors.dt_bias,
                         .norm_weight = tensors.norm_weight,
                         .conv_state = tensors.conv_state,
                         .recurrent_state = tensors.recurrent_state,
                         .out = data.EmptyAct({rows, kHeads * kDv})};
  OpCase result{.name = name};
  for (const RowBatch* batch : batches) {
    const int64_t state = kHeads * kDk * kDv + (kKernel - 1) * kChannels;
    const int64_t row = kChannels + 2 * kHeads * kDv + 2 * kHeads;
    result.rows += rows;
    result.cost +=
        {.bytes = kFloat * static_cast<double>(2 * batch->num_sequences * state) +
                  data.act_bytes() * static_cast<double>(rows * row),
         .flops = ConvFlops(rows, kChannels, kKernel) + DeltaRuleFlops(rows, kHeads, kDk, kDv)};
  }
  result.run = [&data, args, batches]() mutable {
    for (const RowBatch* batch : batches) {
      args.rows = batch;
      data.ops().GatedDeltaNet(args, data.arena());
    }
  };
  return result;
}

std::vector<OpCase> DeltaCases(OpData& data, const std::vector<std::string>& names) {
  const DeltaTensors tensors{.conv_weight = data.Floats({kChannels, kKernel}, 0, 0.5F),
                             .a_log = data.Floats({kHeads}),
                             .dt_bias = data.Floats({kHeads}, -4),
                             .norm_weight = data.Floats({kDv}, 1),
                             .conv_state = data.Floats({kStates, kKernel - 1, kChannels}),
                             .recurrent_state = data.Floats({kStates, kHeads, kDk, kDv}, 0, 0.01F)};
  std::vector<OpCase> cases;
  for (const int64_t size : {1, 8, 32}) {
    std::vector<const RowBatch*> batches;
    for (int32_t state = 0; state < kStates;) {
      std::vector<OpSequence> sequences;
      for (int64_t i = 0; i < size; ++i) {
        sequences.push_back({.slot = state, .state = state, .position = 100});
        ++state;
      }
      batches.push_back(&data.Rows(sequences, size));
    }
    cases.push_back(DeltaCase(names[cases.size()], data, tensors, batches));
  }
  cases.push_back(DeltaCase(names[cases.size()], data, tensors, {&data.Rows({{.rows = 512}}, 0)}));
  return cases;
}

struct KvTensors {
  TensorView keys, values, block_table;
};

// The last of `first` and more positions that `batches` see, rows of one shape.
OpCase AttentionCase(const std::string& name,
                     OpData& data,
                     const KvTensors& kv,
                     const std::vector<const RowBatch*>& batches,
                     const std::vector<int64_t>& first_positions) {
  const int64_t rows = batches.front()->num_rows;
  AttentionArgs args{.num_heads = kQueryHeads,
                     .num_kv_heads = kKvHeads,
                     .head_dim = kHeadDim,
                     .q = data.Act({rows, kQueryHeads, kHeadDim}),
                     .qg = data.Act({rows, kQueryHeads, 2 * kHeadDim}),
                     .k_cache = kv.keys,
                     .v_cache = kv.values,
                     .out = data.EmptyAct({rows, kQueryHeads * kHeadDim})};
  OpCase result{.name = name};
  for (size_t i = 0; i < batches.size(); ++i) {
    const int64_t sequences = batches[i]->num_sequences;
    const int64_t each = rows / sequences;
    const int64_t seen = sequences * (first_positions[i] + each) * 2 * kKvHeads * kHeadDim;
    result.rows += rows;
    result.cost +=
        {.bytes = data.kv_bytes() * static_cast<double>(seen) +
                  data.act_bytes() * static_cast<double>(rows * 3 * kQueryHeads * kHeadDim),
         .flops = static_cast<double>(sequences) *
                  AttentionFlops(each, first_positions[i], kQueryHeads, kHeadDim)};
  }
  result.run = [&data, args, batches]() mutable {
    for (const RowBatch* batch : batches) {
      args.rows = batch;
      data.ops().Attention(args, data.arena());
    }
  };
  return result;
}

KvTensors MakeKv(OpData& data) {
  // One block more for the row at position kDepth; blocks of a slot lie apart, as in a busy world.
  const int64_t blocks = kDepth / kBlockTokens + 1;
  std::vector<int32_t> table;
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    for (int64_t i = 0; i < blocks; ++i) table.push_back(static_cast<int32_t>(i * kSlots + slot));
  }
  return {.keys = data.Kv({kSlots * blocks, kKvHeads, kBlockTokens, kHeadDim}),
          .values = data.Kv({kSlots * blocks, kKvHeads, kBlockTokens, kHeadDim}),
          .block_table = data.Ints(table, {kSlots, blocks})};
}

// All slots, `size` at a time.
OpCase DecodeCase(
    const std::string& name, OpData& data, const KvTensors& kv, int64_t size, int64_t depth) {
  std::vector<const RowBatch*> batches;
  for (int32_t slot = 0; slot < kSlots;) {
    std::vector<OpSequence> sequences;
    for (int64_t i = 0; i < size; ++i) sequences.push_back({.slot = slot++, .position = depth});
    batches.push_back(&data.Rows(sequences, size, kv.block_table));
  }
  return AttentionCase(name, data, kv, batches, std::vector<int64_t>(batches.size(), depth));
}

// A prompt in chunks of 512.
OpCase PrefillCase(const std::string& name, OpData& data, const KvTensors& kv, int64_t prompt) {
  constexpr int64_t kChunk = 512;
  std::vector<const RowBatch*> batches;
  std::vector<int64_t> starts;
  for (int64_t start = 0; start < prompt; start += kChunk) {
    batches.push_back(&data.Rows({{.position = start, .rows = kChunk}}, 0, kv.block_table));
    starts.push_back(start);
  }
  return AttentionCase(name, data, kv, batches, starts);
}

}  // namespace

std::vector<OpGroup> GatedDeltaNetGroups() {
  OpGroup group;
  for (const int64_t size : {1, 8, 32}) {
    group.names.push_back(absl::StrCat("gated_delta_net, decode, batch ", size, ", 256 states"));
  }
  group.names.emplace_back("gated_delta_net, prefill, rows 512");
  group.make = [names = group.names](OpData& data) { return DeltaCases(data, names); };
  return {group};
}

std::vector<OpGroup> AttentionGroups() {
  struct Decode {
    int64_t size, depth;
  };
  const std::vector<Decode> decodes = {{1, 0}, {8, 0}, {1, kDepth}, {8, kDepth}};
  const std::vector<int64_t> prompts = {512, kDepth};
  OpGroup group;
  for (const Decode& decode : decodes) {
    group.names.push_back(absl::StrCat("attention, decode, batch ", decode.size, ", depth ",
                                       decode.depth, ", 16 slots"));
  }
  for (const int64_t prompt : prompts) {
    group.names.push_back(absl::StrCat("attention, prefill, prompt ", prompt));
  }
  group.make = [=, names = group.names](OpData& data) {
    const KvTensors kv = MakeKv(data);
    std::vector<OpCase> cases;
    cases.reserve(names.size());
    for (const Decode& decode : decodes) {
      cases.push_back(DecodeCase(names[cases.size()], data, kv, decode.size, decode.depth));
    }
    for (const int64_t prompt : prompts) {
      cases.push_back(PrefillCase(names[cases.size()], data, kv, prompt));
    }
    return cases;
  };
  return {group};
}

}  // namespace deltaserve::bench
