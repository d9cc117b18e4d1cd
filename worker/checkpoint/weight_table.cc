#include "worker/checkpoint/weight_table.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace deltaserve {
namespace {

// The odd heads of random weights: a key head near zero shows the epsilon of l2norm, a value head
// that forgets at once shows a decay mask applied too late.
constexpr float kFaintKeyScale = 1e-4F;
constexpr float kForgetfulALog = 4.0F;
constexpr float kForgetfulTimeStep = 5.0F;
// Random untied heads: logits have a standard deviation of about 3.
constexpr double kHeadDeviation = 3.0;

RandomValues Normal(double mean, double deviation) {
  return {.mean = static_cast<float>(mean), .deviation = static_cast<float>(deviation)};
}

// N(0, 1 / fan_in)
RandomValues LinearValues(int64_t fan_in) {
  return Normal(0, 1.0 / std::sqrt(static_cast<double>(fan_in)));
}

StoredTensor Linear(std::string name, int64_t out, int64_t in) {
  return {.name = std::move(name), .shape = {out, in}, .values = LinearValues(in)};
}

// One stored tensor of the same name and shape as the logical weight.
WeightSpec Plain(StoredTensor tensor, Split split, std::vector<RowSegment> segments) {
  WeightSpec spec;
  spec.name = tensor.name;
  spec.shape = tensor.shape;
  spec.stored.push_back(std::move(tensor));
  spec.split = split;
  spec.segments = std::move(segments);
  return spec;
}

WeightSpec MayQuantize(WeightSpec spec) {
  spec.precision = Precision::kMayQuantize;
  return spec;
}

// Stored zero-centred: the model uses 1 + w.
WeightSpec ZeroCentredNorm(std::string name, int64_t size) {
  return Plain({.name = std::move(name), .shape = {size}, .values = Normal(0, 0.3)},
               Split::kReplicated, {});
}

// Builds the table of one model. A layer's functions append in the order of the file comment.
class TableBuilder {
 public:
  TableBuilder(const ModelConfig& config, const ParallelOptions& options, ExpertForm experts)
      : config_(config), options_(options), experts_(experts) {}

  std::vector<WeightSpec> Build() {
    const int64_t vocab = config_.vocab_size;
    const int64_t hidden = config_.hidden_size;
    Add(Plain({.name = "embed_tokens.weight", .shape = {vocab, hidden}, .values = Normal(0, 1)},
              Split::kVocabulary, {}));
    for (int64_t i = 0; i < config_.num_hidden_layers; ++i) AddLayer(i);
    Add(ZeroCentredNorm("norm.weight", hidden));
    StoredTensor head = Linear("lm_head.weight", vocab, hidden);
    head.values = Normal(0, kHeadDeviation / std::sqrt(static_cast<double>(hidden)));
    WeightSpec spec = Plain(std::move(head), Split::kVocabulary, {});
    spec.optional = true;
    Add(MayQuantize(std::move(spec)));
    return std::move(table_);
  }

 private:
  void Add(WeightSpec spec) { table_.push_back(std::move(spec)); }

  void AddLayer(int64_t layer) {
    const std::string prefix = absl::StrCat("layers.", layer, ".");
    Add(ZeroCentredNorm(prefix + "input_layernorm.weight", config_.hidden_size));
    if (config_.layer_types[static_cast<size_t>(layer)] == LayerType::kLinearAttention) {
      AddLinearAttention(layer, prefix + "linear_attn.");
    } else {
      AddFullAttention(prefix + "self_attn.");
    }
    Add(ZeroCentredNorm(prefix + "post_attention_layernorm.weight", config_.hidden_size));
    if (config_.is_moe()) {
      AddExperts(prefix + "mlp.");
    } else {
      AddMlp(prefix + "mlp.", config_.intermediate_size);
    }
  }

  // With --linear-attention=replicated every rank holds all of it.
  void AddShared(WeightSpec spec) {
    if (options_.linear_attention == LinearAttentionMode::kReplicated) {
      spec.split = Split::kReplicated;
      spec.segments.clear();
    }
    Add(std::move(spec));
  }

  std::vector<RowSegment> MixedSegments() const {
    const RowSegment key = {config_.key_dim(), config_.linear_key_head_dim};
    return {key, key, {config_.value_dim(), config_.linear_value_head_dim}};
  }

  void AddLinearAttention(int64_t layer, const std::string& prefix) {
    const int64_t faint_key_head = layer % config_.linear_num_key_heads;
    const int64_t forgetful_head = (layer + 1) % config_.linear_num_value_heads;
    if (config_.family == ModelFamily::kQwen3Next) {
      AddInterleavedProjections(faint_key_head, prefix);
    } else {
      AddProjections(faint_key_head, prefix);
    }
    AddShared(ConvSpec(prefix + "conv1d.weight"));
    const int64_t heads = config_.linear_num_value_heads;
    const DType precise = config_.family == ModelFamily::kQwen3Next ? DType::kBF16 : DType::kF32;
    const auto per_head = [&](const char* name, RandomValues::Kind kind, float forgetful,
                              DType dtype) {
      const RowChange change = {forgetful_head, forgetful_head + 1, 0.0F, forgetful};
      AddShared(Plain({.name = prefix + name,
                       .shape = {heads},
                       .dtype = dtype,
                       .values = {.kind = kind, .changes = {change}}},
                      Split::kOutput, {{heads, 1}}));
    };
    per_head("A_log", RandomValues::Kind::kDecay, kForgetfulALog, precise);
    per_head("dt_bias", RandomValues::Kind::kTimeStep, kForgetfulTimeStep, DType::kBF16);
    Add(Plain({.name = prefix + "norm.weight",
               .shape = {config_.linear_value_head_dim},
               .dtype = precise,
               .values = Normal(1, 0.3)},
              Split::kReplicated, {}));
    AddShared(MayQuantize(
        Plain(Linear(prefix + "out_proj.weight", config_.hidden_size, config_.value_dim()),
              Split::kInput, {})));
  }

  // Stored [channels, 1, kernel].
  WeightSpec ConvSpec(const std::string& name) const {
    WeightSpec spec;
    spec.name = name;
    spec.shape = {config_.conv_channels(), config_.linear_conv_kernel_dim};
    spec.stored.push_back(
        {.name = name, .shape = {spec.shape[0], 1, spec.shape[1]}, .values = Normal(0, 0.5)});
    spec.split = Split::kOutput;
    spec.segments = MixedSegments();
    return spec;
  }

  // Qwen3.5: in_proj_qkv, in_proj_z, in_proj_b, in_proj_a.
  void AddProjections(int64_t faint_key_head, const std::string& prefix) {
    const int64_t hidden = config_.hidden_size;
    const int64_t heads = config_.linear_num_value_heads;
    const int64_t dk = config_.linear_key_head_dim;
    StoredTensor qkv = Linear(prefix + "in_proj_qkv.weight", config_.conv_channels(), hidden);
    const int64_t first = config_.key_dim() + faint_key_head * dk;
    qkv.values.changes.push_back({first, first + dk, kFaintKeyScale, 0.0F});
    AddShared(MayQuantize(Plain(std::move(qkv), Split::kOutput, MixedSegments())));
    AddShared(
        MayQuantize(Plain(Linear(prefix + "in_proj_z.weight", config_.value_dim(), hidden),
                          Split::kOutput, {{config_.value_dim(), config_.linear_value_head_dim}})));
    for (const char* name : {"in_proj_b.weight", "in_proj_a.weight"}) {
      AddShared(Plain(Linear(prefix + name, heads, hidden), Split::kOutput, {{heads, 1}}));
    }
  }

  // Qwen3-Next: in_proj_qkvz and in_proj_ba, a block of rows a key head (spec 2.7), taken apart.
  void AddInterleavedProjections(int64_t faint_key_head, const std::string& prefix) {
    const int64_t hidden = config_.hidden_size;
    const int64_t groups = config_.linear_num_key_heads;
    const int64_t ratio = config_.linear_num_value_heads / groups;
    const int64_t dk = config_.linear_key_head_dim;
    const int64_t values = ratio * config_.linear_value_head_dim;  // rows of a group's v or z
    const int64_t block = 2 * dk + 2 * values;
    StoredTensor qkvz = Linear(prefix + "in_proj_qkvz.weight", groups * block, hidden);
    const int64_t first = faint_key_head * block + dk;
    qkvz.values.changes.push_back({first, first + dk, kFaintKeyScale, 0.0F});
    StoredTensor ba = Linear(prefix + "in_proj_ba.weight", groups * 2 * ratio, hidden);

    // Appends rows [begin, begin + count) of every group's block of `stride` rows.
    const auto gather = [&](std::vector<int64_t>& rows, int64_t stride, int64_t begin,
                            int64_t count) {
      for (int64_t group = 0; group < groups; ++group) {
        for (int64_t row = 0; row < count; ++row) rows.push_back(group * stride + begin + row);
      }
    };
    const auto add = [&](const char* name, const StoredTensor& stored, std::vector<int64_t> rows,
                         std::vector<RowSegment> segments, Precision precision) {
      WeightSpec spec = Plain(stored, Split::kOutput, std::move(segments));
      spec.name = prefix + name;
      spec.precision = precision;
      spec.shape = {static_cast<int64_t>(rows.size()), hidden};
      spec.row_permutation = std::move(rows);
      AddShared(std::move(spec));
    };
    std::vector<int64_t> mixed, gate, beta, decay;
    gather(mixed, block, 0, dk);
    gather(mixed, block, dk, dk);
    gather(mixed, block, 2 * dk, values);
    gather(gate, block, 2 * dk + values, values);
    gather(beta, 2 * ratio, 0, ratio);
    gather(decay, 2 * ratio, ratio, ratio);
    const int64_t heads = config_.linear_num_value_heads;
    add("in_proj_qkv.weight", qkvz, std::move(mixed), MixedSegments(), Precision::kMayQuantize);
    add("in_proj_z.weight", qkvz, std::move(gate),
        {{config_.value_dim(), config_.linear_value_head_dim}}, Precision::kMayQuantize);
    add("in_proj_b.weight", ba, std::move(beta), {{heads, 1}}, Precision::kExact);
    add("in_proj_a.weight", ba, std::move(decay), {{heads, 1}}, Precision::kExact);
  }

  void AddFullAttention(const std::string& prefix) {
    const int64_t hidden = config_.hidden_size;
    const int64_t dim = config_.head_dim;
    const int64_t q_rows = config_.num_attention_heads * 2 * dim;
    const int64_t kv_rows = config_.num_key_value_heads * dim;
    Add(MayQuantize(Plain(Linear(prefix + "q_proj.weight", q_rows, hidden), Split::kOutput,
                          {{q_rows, 2 * dim}})));
    for (const char* name : {"k_proj.weight", "v_proj.weight"}) {
      Add(MayQuantize(
          Plain(Linear(prefix + name, kv_rows, hidden), Split::kKvHeads, {{kv_rows, dim}})));
    }
    Add(ZeroCentredNorm(prefix + "q_norm.weight", dim));
    Add(ZeroCentredNorm(prefix + "k_norm.weight", dim));
    Add(MayQuantize(
        Plain(Linear(prefix + "o_proj.weight", hidden, config_.num_attention_heads * dim),
              Split::kInput, {})));
  }

  // gate_proj and up_proj are stored apart and used as one.
  void AddMlp(const std::string& prefix, int64_t width) {
    const int64_t hidden = config_.hidden_size;
    WeightSpec spec;
    spec.name = prefix + "gate_up_proj.weight";
    spec.shape = {2 * width, hidden};
    spec.stored = {Linear(prefix + "gate_proj.weight", width, hidden),
                   Linear(prefix + "up_proj.weight", width, hidden)};
    spec.split = Split::kOutput;
    spec.segments = {{width, 1}, {width, 1}};
    Add(MayQuantize(std::move(spec)));
    Add(MayQuantize(Plain(Linear(prefix + "down_proj.weight", hidden, width), Split::kInput, {})));
  }

  void AddExperts(const std::string& prefix) {
    const int64_t hidden = config_.hidden_size;
    const int64_t width = config_.moe_intermediate_size;
    const int64_t experts = config_.num_experts;
    const bool whole = options_.moe == MoeMode::kExpert;
    Add(Plain(Linear(prefix + "gate.weight", experts, hidden), Split::kReplicated, {}));
    AddExpertWeight(prefix + "experts.", "gate_up_proj", {"gate_proj", "up_proj"},
                    {experts, 2 * width, hidden}, whole ? Split::kExperts : Split::kOutput);
    AddExpertWeight(prefix + "experts.", "down_proj", {"down_proj"}, {experts, hidden, width},
                    whole ? Split::kExperts : Split::kInput);
    AddMlp(prefix + "shared_expert.", config_.shared_expert_intermediate_size);
    Add(Plain(Linear(prefix + "shared_expert_gate.weight", 1, hidden), Split::kReplicated, {}));
  }

  // `parts`: the projections of one expert that make its rows, equal shares each.
  void AddExpertWeight(const std::string& prefix,
                       const std::string& fused_name,
                       const std::vector<std::string>& parts,
                       std::vector<int64_t> shape,
                       Split split) {
    const int64_t part_rows = shape[1] / static_cast<int64_t>(parts.size());
    WeightSpec spec;
    spec.name = prefix + fused_name;
    spec.stored = {{.name = spec.name, .shape = shape, .values = LinearValues(shape[2])}};
    for (int64_t expert = 0; expert < shape[0]; ++expert) {
      for (const std::string& part : parts) {
        spec.alternative.push_back(
            Linear(absl::StrCat(prefix, expert, ".", part, ".weight"), part_rows, shape[2]));
      }
    }
    if (experts_ == ExpertForm::kPerExpert) std::swap(spec.stored, spec.alternative);
    spec.split = split;
    if (split == Split::kOutput) spec.segments.assign(parts.size(), {part_rows, 1});
    spec.shape = std::move(shape);
    Add(MayQuantize(std::move(spec)));
  }

  const ModelConfig& config_;
  const ParallelOptions& options_;
  const ExpertForm experts_;
  std::vector<WeightSpec> table_;
};

}  // namespace

int64_t LocalBytes(const ShardPlan& plan, const WeightSpec& spec, Quantization quantization) {
  const std::vector<int64_t> shape = plan.LocalShape(spec);
  const int64_t elements = NumElements(shape);
  if (quantization == Quantization::kNone || spec.precision == Precision::kExact) {
    return elements * static_cast<int64_t>(DTypeSize(spec.stored.front().dtype));
  }
  const int64_t outputs = elements == 0 ? 0 : elements / shape.back();
  return elements + outputs * static_cast<int64_t>(sizeof(float));
}

int64_t QuantizedDepth(const ModelConfig& config, const ShardPlan& plan) {
  int64_t depth = 0;
  for (const WeightSpec& spec : WeightTable(config, plan.options())) {
    if (spec.precision != Precision::kMayQuantize) continue;
    depth = std::max(depth, plan.LocalShape(spec).back());
  }
  return depth;
}

ExpertForm PublishedExpertForm(const ModelConfig& config) {
  return config.family == ModelFamily::kQwen3Next ? ExpertForm::kPerExpert : ExpertForm::kFused;
}

std::vector<WeightSpec> WeightTable(const ModelConfig& config,
                                    const ParallelOptions& options,
                                    ExpertForm experts) {
  return TableBuilder(config, options, experts).Build();
}

std::vector<WeightSpec> WeightTable(const ModelConfig& config, const ParallelOptions& options) {
  return WeightTable(config, options, PublishedExpertForm(config));
}

std::vector<StoredTensor> StoredTensors(const ModelConfig& config,
                                        const std::vector<WeightSpec>& table) {
  std::vector<StoredTensor> tensors;
  absl::flat_hash_set<std::string> seen;
  for (const WeightSpec& spec : table) {
    if (spec.optional && config.tie_word_embeddings) continue;
    for (const StoredTensor& tensor : spec.stored) {
      if (seen.insert(tensor.name).second) tensors.push_back(tensor);
    }
  }
  return tensors;
}

}  // namespace deltaserve
