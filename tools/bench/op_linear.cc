// Linear, Experts and the ops of single rows.

#include <algorithm>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "tools/bench/op_groups.h"

namespace deltaserve::bench {
namespace {

constexpr double kFloat = sizeof(float);
constexpr int64_t kHidden = 1024, kWidth = 3584, kVocabulary = 248320;

struct Features {
  int64_t out, in;
};
// The large matrices of a linear-attention layer.
constexpr Features kLayer[] = {
    {6144, kHidden}, {2048, kHidden}, {kHidden, 2048}, {2 * kWidth, kHidden}, {kHidden, kWidth}};
constexpr double kDistinctBytes = static_cast<double>(int64_t{1} << 30);

// `rows` rows times every weight.
OpCase LinearCase(const std::string& name,
                  OpData& data,
                  const std::vector<const LinearWeight*>& weights,
                  int64_t rows) {
  OpCase result{.name = name, .rows = rows};
  std::vector<LinearArgs> calls;
  const TensorView x = data.Act({rows, kWidth});
  const TensorView out = data.EmptyAct({rows, 2 * kWidth});
  for (const LinearWeight* weight : weights) {
    const int64_t in = weight->in_features(), wide = weight->out_features();
    calls.push_back({.x = TensorView(x.data(), x.dtype(), {rows, in}),
                     .weight = weight,
                     .out = TensorView(out.data(), out.dtype(), {rows, wide})});
    result.cost += {.bytes = static_cast<double>(weight->bytes()) +
                             data.act_bytes() * static_cast<double>(rows * (in + wide)),
                    .flops = LinearFlops(rows, wide, in)};
  }
  result.run = [&data, calls] {
    for (const LinearArgs& call : calls) data.ops().Linear(call, data.arena());
  };
  return result;
}

OpGroup LinearGroup(double least_bytes, const std::vector<int64_t>& rows) {
  OpGroup group;
  for (const int64_t n : rows) {
    group.names.push_back(absl::StrCat("linear, rows ", n, least_bytes > 0 ? ", of 1 GiB" : ""));
  }
  group.make = [=, names = group.names](OpData& data) {
    std::vector<const LinearWeight*> weights;
    double bytes = 0;
    do {
      for (const Features& features : kLayer) {
        weights.push_back(&data.Linear(features.out, features.in));
        bytes += static_cast<double>(weights.back()->bytes());
      }
    } while (bytes < least_bytes);
    std::vector<OpCase> cases;
    for (size_t i = 0; i < rows.size(); ++i) {
      cases.push_back(LinearCase(names[i], data, weights, rows[i]));
    }
    return cases;
  };
  return group;
}

constexpr int64_t kMoeHidden = 2048, kExperts = 64, kTopK = 8, kExpertWidth = 512;

// Each row chooses kTopK experts, as if at random.
std::vector<int32_t> ChooseExperts(int64_t rows, std::minstd_rand& random) {
  std::vector<int32_t> all(static_cast<size_t>(kExperts)), chosen;
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  for (int64_t row = 0; row < rows; ++row) {
    std::shuffle(all.begin(), all.end(), random);
    std::sort(all.begin(), all.begin() + kTopK);
    chosen.insert(chosen.end(), all.begin(), all.begin() + kTopK);
  }
  return chosen;
}

// Calls enough that all experts are read and more.
OpCase ExpertCase(const std::string& name, OpData& data, const ExpertWeights& w, int64_t rows) {
  const int64_t calls = std::max<int64_t>(1, 32 / rows);
  OpCase result{.name = name, .rows = rows * calls};
  std::minstd_rand random(7);
  std::vector<ExpertsArgs> all;
  const TensorView x = data.Act({rows, kMoeHidden});
  const TensorView weights = data.Floats({rows, kTopK}, 1.0F / kTopK, 0);
  const TensorView out = data.Reduction({rows, kMoeHidden});
  for (int64_t i = 0; i < calls; ++i) {
    const std::vector<int32_t> chosen = ChooseExperts(rows, random);
    const std::set<int32_t> distinct(chosen.begin(), chosen.end());
    const double share = static_cast<double>(distinct.size()) / kExperts;
    all.push_back({.x = x,
                   .experts = data.Ints(chosen, {rows, kTopK}),
                   .weights = weights,
                   .expert_weights = &w,
                   .shared = {},
                   .shared_gate = {},
                   .out = out});
    result.cost += {.bytes = share * static_cast<double>(w.bytes()) +
                             data.act_bytes() * static_cast<double>(2 * rows * kMoeHidden),
                    .flops = LinearFlops(rows * kTopK, 3 * kExpertWidth, kMoeHidden)};
  }
  result.run = [&data, all] {
    for (const ExpertsArgs& args : all) data.ops().Experts(args, data.arena());
  };
  return result;
}

// Tensors that fit caches, as in a model, where the op before has just written them.
OpCase RowCase(const std::string& name, int64_t rows, double bytes, std::function<void()> run) {
  return {.name = name, .rows = rows, .cost = {.bytes = bytes}, .run = std::move(run)};
}

std::vector<OpCase> NormCases(OpData& data) {
  constexpr int64_t kRows = 512;
  const TensorView delta = data.Reduction({kRows, kHidden});
  const TensorView residual = data.Floats({kRows, kHidden});
  const TensorView weight = data.Floats({kHidden}, 1);
  const TensorView out = data.EmptyAct({kRows, kHidden});
  const TensorView gate_up = data.Act({kRows, 2 * kWidth});
  const TensorView wide = data.EmptyAct({kRows, kWidth});
  const TensorView router = data.Floats({kRows, kExperts});
  const TensorView experts = data.Empty(DType::kI32, {kRows, kTopK});
  const TensorView shares = data.Empty(DType::kF32, {kRows, kTopK});
  const AddRmsNormArgs add{
      .delta = delta, .residual = residual, .weight = weight, .eps = 1e-6F, .out = out};
  Ops& ops = data.ops();
  // Of an element that each op reads or writes; the residual is f32.
  const double act = data.act_bytes();
  constexpr auto kHiddens = static_cast<double>(kRows * kHidden);
  return {
      RowCase(
          "rms_norm, rows 512, in caches", kRows, (kFloat + act) * kHiddens,
          [=, &ops] { ops.RmsNorm({.x = residual, .weight = weight, .eps = 1e-6F, .out = out}); }),
      RowCase("add_rms_norm, rows 512, in caches", kRows, (2 * kFloat + 2 * act) * kHiddens,
              [=, &ops] { ops.AddRmsNorm(add); }),
      RowCase("silu_mul, rows 512, in caches", kRows, 3 * act * static_cast<double>(kRows * kWidth),
              [=, &ops] { ops.SiluMul({.gate_up = gate_up, .out = wide}); }),
      RowCase("route_experts, rows 512, in caches", kRows,
              kFloat * static_cast<double>(kRows * (kExperts + 2 * kTopK)), [=, &ops] {
                ops.RouteExperts({.logits = router, .experts = experts, .weights = shares});
              })};
}

std::vector<OpCase> SampleCases(OpData& data) {
  constexpr int64_t kRows = 8;
  const TensorView logits = data.Floats({kRows, kVocabulary});
  const auto zeros = [&](DType dtype) {
    const TensorView view = data.Empty(dtype, {kRows});
    data.device().Zero(view);
    return view;
  };
  const SampleParams params{.temperature = data.Floats({kRows}, 1, 0),
                            .top_k = data.Ints(std::vector<int32_t>(kRows, 50), {kRows}),
                            .top_p = data.Floats({kRows}, 0.9F, 0),
                            .min_p = data.Floats({kRows}, 0, 0),
                            .seed = zeros(DType::kU64),
                            .sample_index = zeros(DType::kU32),
                            .token_index = zeros(DType::kU32)};
  const TensorView value = data.Empty(DType::kF32, {kRows});
  const TensorView id = data.Empty(DType::kI32, {kRows});
  return {RowCase("sample_local (temperature), rows 8, in caches", kRows,
                  kFloat * static_cast<double>(kRows * kVocabulary),
                  [=, &data] {
                    data.ops().SampleLocal({.logits = logits,
                                            .num_tokens = kVocabulary,
                                            .params = &params,
                                            .value = value,
                                            .id = id});
                  }),
          RowCase("sample (top_k 50, top_p 0.9), rows 8, in caches", kRows,
                  kFloat * static_cast<double>(kRows * kVocabulary), [=, &data] {
                    data.ops().Sample(
                        {.logits = logits, .num_tokens = kVocabulary, .params = &params, .id = id},
                        data.arena());
                  })};
}

}  // namespace

std::vector<OpGroup> LinearGroups() {
  return {LinearGroup(kDistinctBytes, {1, 2, 4, 8}), LinearGroup(0, {64, 128, 512})};
}

std::vector<OpGroup> ExpertGroups() {
  OpGroup group;
  const std::vector<int64_t> rows = {1, 2, 8, 32, 512};
  for (const int64_t n : rows) group.names.push_back(absl::StrCat("experts, rows ", n));
  group.make = [=, names = group.names](OpData& data) {
    const ExpertWeights& weights = data.Experts(kExperts, kMoeHidden, kExpertWidth);
    std::vector<OpCase> cases;
    for (size_t i = 0; i < rows.size(); ++i) {
      cases.push_back(ExpertCase(names[i], data, weights, rows[i]));
    }
    return cases;
  };
  return {group};
}

std::vector<OpGroup> RowGroups() {
  return {{.names = {"rms_norm, rows 512, in caches", "add_rms_norm, rows 512, in caches",
                     "silu_mul, rows 512, in caches", "route_experts, rows 512, in caches"},
           .make = &NormCases},
          {.names = {"sample_local (temperature), rows 8, in caches",
                     "sample (top_k 50, top_p 0.9), rows 8, in caches"},
           .make = &SampleCases}};
}

}  // namespace deltaserve::bench
