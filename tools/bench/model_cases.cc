// Products, experts and the ops of rows.

#include "tools/bench/model_cases.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace deltaserve::bench {
namespace {

double Bytes(int64_t elements, DType dtype) {
  return static_cast<double>(elements) * static_cast<double>(DTypeSize(dtype));
}

// Decodes, then the prompt.
std::vector<int64_t> AllRows(const ModelCaseSizes& sizes) {
  std::vector<int64_t> rows = sizes.decodes;
  rows.push_back(sizes.prefill);
  return rows;
}

std::vector<std::string> NamesOf(const std::string& what, const std::vector<int64_t>& rows) {
  std::vector<std::string> names;
  names.reserve(rows.size());
  for (const int64_t n : rows) names.push_back(absl::StrCat(what, ", rows ", n));
  return names;
}

struct Matrix {
  std::string name;
  int64_t out = 0, in = 0;
  bool logits = false;  // out is f32
};

std::vector<Matrix> Matrices(const ModelConfig& c) {
  const int64_t keys = c.linear_num_key_heads * c.linear_key_head_dim;
  const int64_t values = c.linear_num_value_heads * c.linear_value_head_dim;
  const int64_t heads = c.num_attention_heads * c.head_dim;
  std::vector<Matrix> all = {
      {"gated_delta_net qkv", 2 * keys + values, c.hidden_size},
      {"gated_delta_net z", values, c.hidden_size},
      {"gated_delta_net b or a", c.linear_num_value_heads, c.hidden_size},
      {"gated_delta_net out", c.hidden_size, values},
      {"attention q and gate", 2 * heads, c.hidden_size},
      {"attention k or v", c.num_key_value_heads * c.head_dim, c.hidden_size},
      {"attention out", c.hidden_size, heads}};
  const int64_t width = c.num_experts > 0 ? c.shared_expert_intermediate_size : c.intermediate_size;
  const std::string mlp = c.num_experts > 0 ? "shared expert" : "mlp";
  if (width > 0) {
    all.push_back({mlp + " gate and up", 2 * width, c.hidden_size});
    all.push_back({mlp + " down", c.hidden_size, width});
  }
  if (c.num_experts > 0) all.push_back({"router", c.num_experts, c.hidden_size, true});
  return all;
}

// Each run multiplies with every copy of the weight.
OpGroup LinearGroup(const Matrix& m, const std::vector<int64_t>& rows, int64_t distinct_bytes) {
  OpGroup group{
      .names = NamesOf(absl::StrCat("linear ", m.name, " [", m.out, " x ", m.in, "]"), rows),
      .make = {}};
  group.make = [=, names = group.names](OpData& data) {
    const int64_t most = *std::max_element(rows.begin(), rows.end());
    const DType act = data.device().numerics().activation;
    const DType out_dtype = m.logits ? DType::kF32 : act;
    const TensorView x = data.Values(act, {most, m.in});
    const TensorView out = data.Empty(out_dtype, {most, m.out});
    std::vector<const LinearWeight*> copies;
    int64_t bytes = 0;
    do {
      copies.push_back(&data.Linear(m.out, m.in));
      bytes += static_cast<int64_t>(copies.back()->bytes());
    } while (bytes < distinct_bytes && copies.size() < 256);
    std::vector<OpCase> cases;
    for (size_t i = 0; i < rows.size(); ++i) {
      const int64_t n = rows[i];
      OpCase one{.name = names[i], .calls = static_cast<int64_t>(copies.size())};
      std::vector<LinearArgs> calls;
      for (const LinearWeight* weight : copies) {
        calls.push_back({.x = TensorView(x.data(), act, {n, m.in}),
                         .weight = weight,
                         .out = TensorView(out.data(), out_dtype, {n, m.out})});
        one.rows += n;
        one.cost += {.bytes = static_cast<double>(weight->bytes()) + Bytes(n * m.in, act) +
                              Bytes(n * m.out, out_dtype),
                     .flops = LinearFlops(n, m.out, m.in)};
      }
      one.run = [&data, calls] {
        for (const LinearArgs& call : calls) data.ops().Linear(call, data.arena());
      };
      cases.push_back(std::move(one));
    }
    return cases;
  };
  return group;
}

// `top_k` of `experts` for each row, ascending.
std::vector<int32_t> Choose(int64_t rows, int64_t experts, int64_t top_k) {
  std::minstd_rand random(7);
  std::vector<int32_t> all(static_cast<size_t>(experts)), chosen;
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  for (int64_t row = 0; row < rows; ++row) {
    std::shuffle(all.begin(), all.end(), random);
    std::sort(all.begin(), all.begin() + top_k);
    chosen.insert(chosen.end(), all.begin(), all.begin() + top_k);
  }
  return chosen;
}

OpCase ExpertCase(const std::string& name,
                  OpData& data,
                  const ModelConfig& c,
                  const ExpertWeights& weights,
                  int64_t rows) {
  const Numerics numerics = data.device().numerics();
  const std::vector<int32_t> chosen = Choose(rows, c.num_experts, c.num_experts_per_tok);
  const std::set<int32_t> distinct(chosen.begin(), chosen.end());
  const ExpertsArgs args{
      .x = data.Values(numerics.activation, {rows, c.hidden_size}),
      .experts = data.Ints(chosen, {rows, c.num_experts_per_tok}),
      .weights = data.Floats({rows, c.num_experts_per_tok},
                             1.0F / static_cast<float>(c.num_experts_per_tok), 0),
      .expert_weights = &weights,
      .shared = data.Values(numerics.activation, {rows, c.hidden_size}),
      .shared_gate = data.Values(numerics.activation, {rows, 1}),
      .out = data.Empty(numerics.reduction, {rows, c.hidden_size})};
  const double share =
      static_cast<double>(distinct.size()) / static_cast<double>(weights.num_experts());
  return {.name = name,
          .rows = rows,
          .cost = {.bytes = share * static_cast<double>(weights.bytes()) +
                            Bytes(2 * rows * c.hidden_size, numerics.activation) +
                            Bytes(rows * c.hidden_size, numerics.reduction),
                   .flops = LinearFlops(rows * c.num_experts_per_tok, 3 * c.moe_intermediate_size,
                                        c.hidden_size)},
          .run = [&data, args] { data.ops().Experts(args, data.arena()); }};
}

// With RouteExperts.
OpGroup ExpertGroup(const ModelConfig& c, const std::vector<int64_t>& rows) {
  OpGroup group{.names = NamesOf("experts", rows), .make = {}};
  group.names.push_back(absl::StrCat("route_experts, rows ", rows.back()));
  group.make = [=, names = group.names](OpData& data) {
    const ExpertWeights& weights =
        data.Experts(c.num_experts, c.hidden_size, c.moe_intermediate_size);
    std::vector<OpCase> cases;
    for (size_t i = 0; i < rows.size(); ++i) {
      cases.push_back(ExpertCase(names[i], data, c, weights, rows[i]));
    }
    const int64_t n = rows.back();
    const RouteExpertsArgs route{.logits = data.Floats({n, c.num_experts}),
                                 .experts = data.Empty(DType::kI32, {n, c.num_experts_per_tok}),
                                 .weights = data.Empty(DType::kF32, {n, c.num_experts_per_tok})};
    cases.push_back(
        {.name = names.back(),
         .rows = n,
         .cost = {.bytes = Bytes(n * (c.num_experts + 2 * c.num_experts_per_tok), DType::kF32)},
         .run = [&data, route] { data.ops().RouteExperts(route); }});
    return cases;
  };
  return group;
}

// Of `rows` rows at a time; their tensors were just written, so caches may hold them.
OpGroup RowGroup(const ModelConfig& c, int64_t rows) {
  OpGroup group{.names = NamesOf("embed", {rows}), .make = {}};
  for (const char* name : {"rms_norm", "add_rms_norm", "gather_rows", "silu_mul"}) {
    group.names.push_back(absl::StrCat(name, ", rows ", rows));
  }
  const int64_t width = c.num_experts > 0 ? c.shared_expert_intermediate_size : c.intermediate_size;
  if (width == 0) group.names.pop_back();
  group.make = [=, names = group.names](OpData& data) {
    const auto [act, kv, reduction] = data.device().numerics();
    const int64_t hidden = c.hidden_size;
    std::vector<int32_t> ids(static_cast<size_t>(rows));
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(c.vocab_size));
    }
    const TensorView weight = data.Floats({hidden}, 1);
    const TensorView residual = data.Floats({rows, hidden});
    const TensorView out = data.Empty(act, {rows, hidden});
    const EmbedArgs embed{.ids = data.Ints(ids, {rows}),
                          .table = data.Values(DType::kBF16, {c.vocab_size, hidden}),
                          .out = data.Empty(reduction, {rows, hidden})};
    const RmsNormArgs norm{.x = residual, .weight = weight, .eps = 1e-6F, .out = out};
    const AddRmsNormArgs add{.delta = data.Values(reduction, {rows, hidden}),
                             .residual = residual,
                             .weight = weight,
                             .eps = 1e-6F,
                             .out = out};
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(ids.size() - 1 - i);
    const GatherRowsArgs gather{
        .x = data.Values(act, {rows, hidden}), .rows = data.Ints(ids, {rows}), .out = out};
    const auto one = [&](double bytes, std::function<void()> run) {
      return OpCase{.rows = rows, .cost = {.bytes = bytes}, .run = std::move(run)};
    };
    const double row = static_cast<double>(rows * hidden);
    const auto size = [](DType dtype) { return static_cast<double>(DTypeSize(dtype)); };
    std::vector<OpCase> cases = {
        one(row * (size(DType::kBF16) + size(reduction)),
            [&data, embed] { data.ops().Embed(embed); }),
        one(row * (size(DType::kF32) + size(act)), [&data, norm] { data.ops().RmsNorm(norm); }),
        one(row * (2 * size(DType::kF32) + size(reduction) + size(act)),
            [&data, add] { data.ops().AddRmsNorm(add); }),
        one(row * 2 * size(act), [&data, gather] { data.ops().GatherRows(gather); })};
    if (width > 0) {
      const SiluMulArgs silu{.gate_up = data.Values(act, {rows, 2 * width}),
                             .out = data.Empty(act, {rows, width})};
      cases.push_back(
          one(Bytes(3 * rows * width, act), [&data, silu] { data.ops().SiluMul(silu); }));
    }
    for (size_t i = 0; i < cases.size(); ++i) cases[i].name = names[i];
    return cases;
  };
  return group;
}

OpGroup SampleGroup(const ModelConfig& c, int64_t rows) {
  OpGroup group{.names = NamesOf("sample_local (temperature)", {rows}), .make = {}};
  group.names.push_back(absl::StrCat("sample (top_k 50, top_p 0.9), rows ", rows));
  group.make = [=, names = group.names](OpData& data) {
    const auto zeros = [&](DType dtype) {
      const TensorView view = data.Empty(dtype, {rows});
      data.device().Zero(view);
      return view;
    };
    const TensorView logits = data.Floats({rows, c.vocab_size});
    const SampleParams params{
        .temperature = data.Floats({rows}, 1, 0),
        .top_k = data.Ints(std::vector<int32_t>(static_cast<size_t>(rows), 50), {rows}),
        .top_p = data.Floats({rows}, 0.9F, 0),
        .min_p = data.Floats({rows}, 0, 0),
        .seed = zeros(DType::kU64),
        .sample_index = zeros(DType::kU32),
        .token_index = zeros(DType::kU32)};
    const TensorView value = data.Empty(DType::kF32, {rows});
    const TensorView id = data.Empty(DType::kI32, {rows});
    const int64_t tokens = c.vocab_size;
    const Cost cost{.bytes = Bytes(rows * tokens, DType::kF32)};
    return std::vector<OpCase>{
        {.name = names[0],
         .rows = rows,
         .cost = cost,
         .run =
             [=, &data] {
               data.ops().SampleLocal({.logits = logits,
                                       .num_tokens = tokens,
                                       .params = &params,
                                       .value = value,
                                       .id = id});
             }},
        {.name = names[1], .rows = rows, .cost = cost, .run = [=, &data] {
           data.ops().Sample({.logits = logits, .num_tokens = tokens, .params = &params, .id = id},
                             data.arena());
         }}};
  };
  return group;
}

}  // namespace

std::vector<OpGroup> ModelGroups(const ModelConfig& config, const ModelCaseSizes& sizes) {
  const std::vector<int64_t> rows = AllRows(sizes);
  std::vector<OpGroup> groups;
  for (const Matrix& matrix : Matrices(config)) {
    groups.push_back(LinearGroup(matrix, rows, sizes.distinct_bytes));
  }
  groups.push_back(LinearGroup({"head", config.vocab_size, config.hidden_size, true}, sizes.decodes,
                               sizes.distinct_bytes));
  for (OpGroup& group : ModelMixerGroups(config, sizes)) groups.push_back(std::move(group));
  if (config.num_experts > 0) groups.push_back(ExpertGroup(config, rows));
  groups.push_back(RowGroup(config, sizes.prefill));
  groups.push_back(SampleGroup(config, sizes.decodes.back()));
  return groups;
}

}  // namespace deltaserve::bench
