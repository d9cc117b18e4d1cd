// GatedDeltaNet, AttentionPrepare and Attention of a model's sizes.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/bench/model_cases.h"

namespace deltaserve::bench {
namespace {

double Bytes(int64_t elements, DType dtype) {
  return static_cast<double>(elements) * static_cast<double>(DTypeSize(dtype));
}

// As many sequences as hold `distinct_bytes`, and a multiple of every number of decodes.
int64_t NumSequences(const ModelCaseSizes& sizes, int64_t bytes_each) {
  const int64_t step = *std::max_element(sizes.decodes.begin(), sizes.decodes.end());
  const int64_t least = (sizes.distinct_bytes + bytes_each - 1) / bytes_each;
  return std::max<int64_t>(1, (least + step - 1) / step) * step;
}

// All of `count` sequences, `size` decodes at a time.
std::vector<const RowBatch*> Decodes(
    OpData& data, int64_t count, int64_t size, int64_t position, TensorView block_table) {
  std::vector<const RowBatch*> batches;
  for (int64_t next = 0; next + size <= count;) {
    std::vector<OpSequence> sequences;
    for (int64_t i = 0; i < size; ++i, ++next) {
      const auto index = static_cast<int32_t>(next);
      sequences.push_back({.slot = index, .state = index, .position = position});
    }
    batches.push_back(&data.Rows(sequences, size, block_table));
  }
  return batches;
}

OpCase DeltaCase(const std::string& name,
                 OpData& data,
                 const ModelConfig& c,
                 GatedDeltaNetArgs args,
                 const std::vector<const RowBatch*>& batches) {
  const DType act = data.device().numerics().activation;
  const int64_t rows = batches.front()->num_rows;
  const int64_t heads = args.num_value_heads, values = heads * args.value_head_dim;
  const int64_t channels = args.conv_weight.dim(0);
  args.qkv = data.Values(act, {rows, channels});
  args.z = data.Values(act, {rows, values});
  args.b = data.Values(act, {rows, heads});
  args.a = data.Values(act, {rows, heads});
  args.out = data.Empty(act, {rows, values});
  OpCase one{.name = name, .calls = static_cast<int64_t>(batches.size())};
  for (const RowBatch* batch : batches) {
    const int64_t state = values * args.key_head_dim + (c.linear_conv_kernel_dim - 1) * channels;
    one.rows += rows;
    one.cost += {.bytes = Bytes(2 * batch->num_sequences * state, DType::kF32) +
                          Bytes(rows * (channels + 2 * values + 2 * heads), act),
                 .flops = ConvFlops(rows, channels, c.linear_conv_kernel_dim) +
                          DeltaRuleFlops(rows, heads, args.key_head_dim, args.value_head_dim)};
  }
  one.run = [&data, args, batches]() mutable {
    for (const RowBatch* batch : batches) {
      args.rows = batch;
      data.ops().GatedDeltaNet(args, data.arena());
    }
  };
  return one;
}

OpGroup DeltaGroup(const ModelConfig& c, const ModelCaseSizes& sizes) {
  OpGroup group;
  for (const int64_t n : sizes.decodes) {
    group.names.push_back(absl::StrCat("gated_delta_net, decode, batch ", n));
  }
  group.names.push_back(absl::StrCat("gated_delta_net, prefill, rows ", sizes.prefill));
  group.make = [=, names = group.names](OpData& data) {
    const int64_t heads = c.linear_num_value_heads;
    const int64_t dk = c.linear_key_head_dim, dv = c.linear_value_head_dim;
    const int64_t channels = 2 * c.linear_num_key_heads * dk + heads * dv;
    const int64_t states = NumSequences(sizes, 4 * heads * dk * dv);
    const GatedDeltaNetArgs args{
        .num_key_heads = c.linear_num_key_heads,
        .num_value_heads = heads,
        .key_head_dim = dk,
        .value_head_dim = dv,
        .eps = static_cast<float>(c.rms_norm_eps),
        .qkv = {},  // of a case, as are z, b, a and out
        .z = {},
        .b = {},
        .a = {},
        .conv_weight = data.Floats({channels, c.linear_conv_kernel_dim}, 0, 0.5F),
        .a_log = data.Floats({heads}),
        .dt_bias = data.Floats({heads}, -4),
        .norm_weight = data.Floats({dv}, 1),
        .conv_state = data.Floats({states, c.linear_conv_kernel_dim - 1, channels}),
        .recurrent_state = data.Floats({states, heads, dk, dv}, 0, 0.01F),
        .out = {}};
    std::vector<OpCase> cases;
    for (const int64_t n : sizes.decodes) {
      cases.push_back(
          DeltaCase(names[cases.size()], data, c, args, Decodes(data, states, n, sizes.depth, {})));
    }
    cases.push_back(
        DeltaCase(names.back(), data, c, args, {&data.Rows({{.rows = sizes.prefill}}, 0)}));
    return cases;
  };
  return group;
}

// Keys and values of `slots` sequences, whose blocks lie apart.
struct Cache {
  TensorView keys, values, block_table;
};

Cache MakeCache(OpData& data, const ModelConfig& c, int64_t slots, int64_t positions) {
  const DType kv = data.device().numerics().kv;
  const int64_t blocks = (positions + kBlockTokens - 1) / kBlockTokens;
  std::vector<int32_t> table;
  for (int64_t slot = 0; slot < slots; ++slot) {
    for (int64_t i = 0; i < blocks; ++i) table.push_back(static_cast<int32_t>(i * slots + slot));
  }
  const int64_t all = slots * blocks;
  return {.keys = data.Values(kv, {all, c.num_key_value_heads, kBlockTokens, c.head_dim}),
          .values = data.Values(kv, {all, c.num_key_value_heads, kBlockTokens, c.head_dim}),
          .block_table = data.Ints(table, {slots, blocks})};
}

OpCase AttentionCase(const std::string& name,
                     OpData& data,
                     const ModelConfig& c,
                     const Cache& cache,
                     const std::vector<const RowBatch*>& batches,
                     int64_t first) {
  const auto [act, kv, reduction] = data.device().numerics();
  const int64_t rows = batches.front()->num_rows, heads = c.num_attention_heads;
  AttentionArgs args{.num_heads = heads,
                     .num_kv_heads = c.num_key_value_heads,
                     .head_dim = c.head_dim,
                     .q = data.Values(act, {rows, heads, c.head_dim}),
                     .qg = data.Values(act, {rows, heads, 2 * c.head_dim}),
                     .k_cache = cache.keys,
                     .v_cache = cache.values,
                     .out = data.Empty(act, {rows, heads * c.head_dim})};
  OpCase one{.name = name, .calls = static_cast<int64_t>(batches.size())};
  for (const RowBatch* batch : batches) {
    const int64_t sequences = batch->num_sequences, each = rows / sequences;
    const int64_t seen = sequences * (first + each) * 2 * c.num_key_value_heads * c.head_dim;
    one.rows += rows;
    one.cost +=
        {.bytes = Bytes(seen, kv) + Bytes(3 * rows * heads * c.head_dim, act),
         .flops = static_cast<double>(sequences) * AttentionFlops(each, first, heads, c.head_dim)};
  }
  one.run = [&data, args, batches]() mutable {
    for (const RowBatch* batch : batches) {
      args.rows = batch;
      data.ops().Attention(args, data.arena());
    }
  };
  return one;
}

OpCase PrepareCase(const std::string& name,
                   OpData& data,
                   const ModelConfig& c,
                   const Cache& cache,
                   const RowBatch& batch) {
  const auto [act, kv, reduction] = data.device().numerics();
  const int64_t rows = batch.num_rows, heads = c.num_attention_heads;
  const int64_t kv_heads = c.num_key_value_heads;
  const AttentionPrepareArgs args{.num_heads = heads,
                                  .num_kv_heads = kv_heads,
                                  .head_dim = c.head_dim,
                                  .rotary_dim = c.rotary_dim,
                                  .eps = static_cast<float>(c.rms_norm_eps),
                                  .rows = &batch,
                                  .qg = data.Values(act, {rows, heads, 2 * c.head_dim}),
                                  .k = data.Values(act, {rows, kv_heads, c.head_dim}),
                                  .v = data.Values(act, {rows, kv_heads, c.head_dim}),
                                  .q_norm = data.Floats({c.head_dim}, 1),
                                  .k_norm = data.Floats({c.head_dim}, 1),
                                  .inv_frequency = data.Floats({c.rotary_dim / 2}, 0.5F, 0.5F),
                                  .q_out = data.Empty(act, {rows, heads, c.head_dim}),
                                  .k_cache = cache.keys,
                                  .v_cache = cache.values};
  return {.name = name,
          .rows = rows,
          .cost = {.bytes = Bytes(rows * 2 * (heads + kv_heads) * c.head_dim, act) +
                            Bytes(rows * 2 * kv_heads * c.head_dim, kv)},
          .run = [&data, args] { data.ops().AttentionPrepare(args); }};
}

OpGroup AttentionGroup(const ModelConfig& c, const ModelCaseSizes& sizes) {
  OpGroup group;
  for (const int64_t n : sizes.decodes) {
    group.names.push_back(absl::StrCat("attention, decode, batch ", n, ", depth ", sizes.depth));
  }
  group.names.push_back(absl::StrCat("attention, prefill, rows ", sizes.prefill));
  group.names.push_back(absl::StrCat("attention_prepare, rows ", sizes.prefill));
  group.make = [=, names = group.names](OpData& data) {
    const auto element = static_cast<int64_t>(DTypeSize(data.device().numerics().kv));
    const int64_t slots =
        NumSequences(sizes, 2 * sizes.depth * c.num_key_value_heads * c.head_dim * element);
    const Cache cache = MakeCache(data, c, slots, std::max(sizes.depth + 1, sizes.prefill));
    std::vector<OpCase> cases;
    for (const int64_t n : sizes.decodes) {
      const auto batches = Decodes(data, slots, n, sizes.depth, cache.block_table);
      cases.push_back(AttentionCase(names[cases.size()], data, c, cache, batches, sizes.depth));
    }
    const RowBatch& prompt = data.Rows({{.rows = sizes.prefill}}, 0, cache.block_table);
    cases.push_back(AttentionCase(names[cases.size()], data, c, cache, {&prompt}, 0));
    cases.push_back(PrepareCase(names[cases.size()], data, c, cache, prompt));
    return cases;
  };
  return group;
}

}  // namespace

std::vector<OpGroup> ModelMixerGroups(const ModelConfig& config, const ModelCaseSizes& sizes) {
  return {DeltaGroup(config, sizes), AttentionGroup(config, sizes)};
}

}  // namespace deltaserve::bench
