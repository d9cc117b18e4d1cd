#include "worker/checkpoint/shard_plan.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

constexpr int64_t kVocabularyGrain = 64;

// A size that the ranks must divide among them.
struct SharedSize {
  const char* field;
  int64_t value;
};

std::vector<SharedSize> SharedSizes(const ModelConfig& config, const ParallelOptions& options) {
  std::vector<SharedSize> sizes = {{"num_attention_heads", config.num_attention_heads}};
  if (options.linear_attention == LinearAttentionMode::kSharded &&
      config.num_layers_of(LayerType::kLinearAttention) > 0) {
    sizes.push_back({"linear_num_key_heads", config.linear_num_key_heads});
    sizes.push_back({"linear_num_value_heads", config.linear_num_value_heads});
  }
  if (!config.is_moe()) {
    sizes.push_back({"intermediate_size", config.intermediate_size});
    return sizes;
  }
  sizes.push_back({"shared_expert_intermediate_size", config.shared_expert_intermediate_size});
  if (options.moe == MoeMode::kExpert) {
    sizes.push_back({"num_experts", config.num_experts});
  } else {
    sizes.push_back({"moe_intermediate_size", config.moe_intermediate_size});
  }
  return sizes;
}

// The first size that `options.ranks` ranks cannot share: "field is value"; empty if there is none.
std::string FirstObstacle(const ModelConfig& config, const ParallelOptions& options) {
  for (const SharedSize& size : SharedSizes(config, options)) {
    if (size.value % options.ranks != 0) return absl::StrCat(size.field, " is ", size.value);
  }
  const int64_t kv_heads = config.num_key_value_heads;
  if (kv_heads % options.ranks != 0 && options.ranks % kv_heads != 0) {
    return absl::StrCat("num_key_value_heads is ", kv_heads);
  }
  return "";
}

// Modes under which the degree would be legal, as flags: " or --linear-attention=replicated".
std::string OtherModes(const ModelConfig& config, const ParallelOptions& options) {
  ParallelOptions replicated = options;
  replicated.linear_attention = LinearAttentionMode::kReplicated;
  if (FirstObstacle(config, replicated).empty()) return ", or --linear-attention=replicated";
  ParallelOptions experts = options;
  experts.moe = options.moe == MoeMode::kTensor ? MoeMode::kExpert : MoeMode::kTensor;
  if (config.is_moe() && FirstObstacle(config, experts).empty()) {
    return experts.moe == MoeMode::kExpert ? ", or --moe=ep" : ", or --moe=tp";
  }
  return "";
}

// Appends ranges, joined to the one before where both sides are contiguous.
class RangeList {
 public:
  void Append(int stored, int64_t source, int64_t destination, int64_t bytes) {
    if (bytes == 0) return;
    if (!ranges_.empty()) {
      ByteRange& last = ranges_.back();
      if (last.stored == stored && last.source_offset + last.bytes == source &&
          last.destination_offset + last.bytes == destination) {
        last.bytes += bytes;
        return;
      }
    }
    ranges_.push_back({stored, source, destination, bytes});
  }
  std::vector<ByteRange> Take() { return std::move(ranges_); }

 private:
  std::vector<ByteRange> ranges_;
};

// Rows of the concatenated stored tensors -> (stored tensor, row in it).
class StoredRows {
 public:
  explicit StoredRows(const WeightSpec& spec) {
    const int64_t cols = spec.cols();
    for (const StoredTensor& tensor : spec.stored) {
      const int64_t elements = NumElements(tensor.shape);
      DS_CHECK_EQ(elements % cols, 0) << tensor.name;
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) + elements / cols);
    }
  }

  int64_t total() const { return ends_.empty() ? 0 : ends_.back(); }

  // Calls visit(stored, first row in it, count) for the pieces of rows [begin, end).
  template <typename Visit>
  void Pieces(int64_t begin, int64_t end, const Visit& visit) const {
    auto at = std::upper_bound(ends_.begin(), ends_.end(), begin);
    while (begin < end) {
      DS_CHECK(at != ends_.end());
      const int64_t start = at == ends_.begin() ? 0 : *(at - 1);
      const int64_t stop = std::min(end, *at);
      visit(static_cast<int>(at - ends_.begin()), begin - start, stop - begin);
      begin = stop;
      ++at;
    }
  }

 private:
  std::vector<int64_t> ends_;
};

}  // namespace

struct ShardPlan::Part {
  struct Run {
    int64_t begin = 0;
    int64_t end = 0;
  };
  Run experts;
  std::vector<Run> rows;  // of every expert
  Run cols;
};

absl::StatusOr<ShardPlan> ShardPlan::Create(const ModelConfig& config,
                                            const ParallelOptions& options,
                                            int rank) {
  if (options.ranks < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("ranks is ", options.ranks, ": it must be at least 1"));
  }
  DS_CHECK(rank >= 0 && rank < options.ranks) << rank << " of " << options.ranks;
  const std::string obstacle = FirstObstacle(config, options);
  if (!obstacle.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        obstacle, ": ", options.ranks, " ranks cannot share it; use ",
        DegreesText(LegalDegrees(config, options)), " ranks", OtherModes(config, options)));
  }
  const int64_t ranks = options.ranks;
  const bool sharded = options.linear_attention == LinearAttentionMode::kSharded;
  const bool whole_experts = options.moe == MoeMode::kExpert;
  ShardPlan plan;
  plan.options_ = options;
  plan.rank_ = rank;
  plan.kv_replicas_ = std::max<int64_t>(1, ranks / config.num_key_value_heads);
  LocalSizes& local = plan.local_;
  const int64_t grain = std::lcm(kVocabularyGrain, ranks);
  local.vocab_rows = (config.vocab_size + grain - 1) / grain * grain / ranks;
  local.vocab_begin = rank * local.vocab_rows;
  local.num_heads = config.num_attention_heads / ranks;
  local.num_kv_heads = std::max<int64_t>(1, config.num_key_value_heads / ranks);
  local.linear_num_key_heads = config.linear_num_key_heads / (sharded ? ranks : 1);
  local.linear_num_value_heads = config.linear_num_value_heads / (sharded ? ranks : 1);
  local.intermediate_size = config.intermediate_size / ranks;
  local.num_experts = config.num_experts / (whole_experts ? ranks : 1);
  local.first_expert = whole_experts ? rank * local.num_experts : 0;
  local.moe_intermediate_size = config.moe_intermediate_size / (whole_experts ? 1 : ranks);
  local.shared_expert_intermediate_size = config.shared_expert_intermediate_size / ranks;
  return plan;
}

std::vector<int> ShardPlan::LegalDegrees(const ModelConfig& config, ParallelOptions options) {
  std::vector<int> degrees;
  for (int ranks = 1; ranks <= config.num_attention_heads; ++ranks) {
    options.ranks = ranks;
    if (FirstObstacle(config, options).empty()) degrees.push_back(ranks);
  }
  return degrees;
}

ShardPlan::Part ShardPlan::PartOf(const WeightSpec& spec) const {
  const int64_t ranks = options_.ranks;
  Part part;
  part.experts = {0, spec.num_experts()};
  part.cols = {0, spec.cols()};
  const auto share = [&](int64_t size) {
    DS_CHECK_EQ(size % ranks, 0) << spec.name;
    return Part::Run{rank_ * (size / ranks), (rank_ + 1) * (size / ranks)};
  };
  switch (spec.split) {
    case Split::kReplicated:
      part.rows = {{0, spec.rows()}};
      return part;
    case Split::kExperts:
      part.experts = share(spec.num_experts());
      part.rows = {{0, spec.rows()}};
      return part;
    case Split::kInput:
      part.cols = share(spec.cols());
      part.rows = {{0, spec.rows()}};
      return part;
    case Split::kVocabulary:
      part.rows = {{std::min(spec.rows(), local_.vocab_begin),
                    std::min(spec.rows(), local_.vocab_begin + local_.vocab_rows)}};
      return part;
    case Split::kKvHeads: {
      const int64_t granule = spec.segments.front().granule;
      const int64_t first = kv_replicas_ > 1 ? rank_ / kv_replicas_ : rank_ * local_.num_kv_heads;
      part.rows = {{first * granule, (first + local_.num_kv_heads) * granule}};
      return part;
    }
    case Split::kOutput:
      break;
  }
  int64_t start = 0;
  for (const RowSegment& segment : spec.segments) {
    const Part::Run run = share(segment.rows);
    DS_CHECK_EQ((run.end - run.begin) % segment.granule, 0) << spec.name;
    part.rows.push_back({start + run.begin, start + run.end});
    start += segment.rows;
  }
  DS_CHECK_EQ(start, spec.rows()) << spec.name;
  return part;
}

std::vector<int64_t> ShardPlan::LocalShape(const WeightSpec& spec) const {
  const Part part = PartOf(spec);
  int64_t rows = 0;
  for (const Part::Run& run : part.rows) rows += run.end - run.begin;
  if (spec.split == Split::kVocabulary) rows = local_.vocab_rows;
  const int64_t cols = part.cols.end - part.cols.begin;
  if (spec.shape.size() == 1) return {rows};
  if (spec.shape.size() == 2) return {rows, cols};
  return {part.experts.end - part.experts.begin, rows, cols};
}

std::vector<ByteRange> ShardPlan::Ranges(const WeightSpec& spec, DType stored_dtype) const {
  const Part part = PartOf(spec);
  const StoredRows stored(spec);
  const auto size = static_cast<int64_t>(DTypeSize(stored_dtype));
  const int64_t row_bytes = spec.cols() * size;
  const int64_t part_bytes = (part.cols.end - part.cols.begin) * size;
  const int64_t skipped = part.cols.begin * size;
  RangeList ranges;
  int64_t destination = 0;
  const auto append = [&](int64_t begin, int64_t end) {
    stored.Pieces(begin, end, [&](int tensor, int64_t first, int64_t count) {
      if (part_bytes == row_bytes) {
        ranges.Append(tensor, first * row_bytes, destination, count * row_bytes);
        destination += count * row_bytes;
        return;
      }
      for (int64_t row = first; row < first + count; ++row) {
        ranges.Append(tensor, row * row_bytes + skipped, destination, part_bytes);
        destination += part_bytes;
      }
    });
  };
  DS_CHECK(!spec.row_permutation.empty() || stored.total() == spec.num_experts() * spec.rows())
      << spec.name;
  for (int64_t expert = part.experts.begin; expert < part.experts.end; ++expert) {
    const int64_t start = expert * spec.rows();
    for (const Part::Run& run : part.rows) {
      if (spec.row_permutation.empty()) {
        append(start + run.begin, start + run.end);
        continue;
      }
      for (int64_t row = start + run.begin; row < start + run.end; ++row) {
        const int64_t source = spec.row_permutation[static_cast<size_t>(row)];
        append(source, source + 1);
      }
    }
  }
  return ranges.Take();
}

std::string DegreesText(const std::vector<int>& degrees) {
  std::string text;
  for (size_t i = 0; i < degrees.size(); ++i) {
    if (i > 0) absl::StrAppend(&text, i + 1 == degrees.size() ? " or " : ", ");
    absl::StrAppend(&text, degrees[i]);
  }
  return text;
}

}  // namespace deltaserve
