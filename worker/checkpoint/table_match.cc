#include "worker/checkpoint/table_match.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

constexpr const char* kPrefixes[] = {"model.language_model.", "model."};
constexpr const char* kSkipped[] = {"mtp.", "model.mtp.", "visual.", "model.visual."};
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "embed_tokens.weight";

// Name endings of quantised weights, and of whom.
struct Ending {
  const char* text;
  const char* format;
};
constexpr Ending kQuantised[] = {
    {".weight_scale_inv", "block FP8"},
    {".weight_scale", "FP8 or NVFP4"},
    {".weight_scale_2", "NVFP4"},
    {".weight_packed", "compressed-tensors"},
    {".weight_global_scale", "NVFP4"},
    {".input_scale", "FP8 or NVFP4"},
    {".input_global_scale", "NVFP4"},
    {".qweight", "GPTQ or AWQ"},
    {".qzeros", "GPTQ or AWQ"},
    {".scales", "GPTQ or AWQ"},
    {".g_idx", "GPTQ"},
    {".k_scale", "FP8 KV cache"},
    {".v_scale", "FP8 KV cache"},
};

std::string Where(const TensorLocation& location) {
  return absl::StrCat(location.file->path(), ": tensor ", location.entry->name);
}

bool IsSkipped(const std::string& name) {
  return std::any_of(std::begin(kSkipped), std::end(kSkipped),
                     [&](const char* prefix) { return absl::StartsWith(name, prefix); });
}

std::string StoredName(const std::string& prefix, const std::string& name) {
  return name == kHead ? name : prefix + name;
}

// The prefix under which the embedding stands.
absl::StatusOr<std::string> FindPrefix(const CheckpointFiles& files) {
  std::string found;
  for (const char* prefix : kPrefixes) {
    if (!files.Find(absl::StrCat(prefix, kEmbedding))) continue;
    if (!found.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(files.directory(), ": both ", found,
                                                     kEmbedding, " and ", prefix, kEmbedding,
                                                     " are there; keep the tensors of one prefix"));
    }
    found = prefix;
  }
  if (found.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.directory(), ": tensor ", kEmbedding, " is missing, both under ",
                     kPrefixes[0], " and under ", kPrefixes[1], "; is this a whole text model?"));
  }
  return found;
}

absl::Status RefuseUnknown(const TensorLocation& location) {
  const std::string& name = location.entry->name;
  for (const Ending& ending : kQuantised) {
    if (absl::EndsWith(name, ending.text)) {
      return absl::UnimplementedError(
          absl::StrCat(Where(location), " belongs to a quantised weight (", ending.format,
                       "): quantised checkpoints are not supported; serve the BF16 release"));
    }
  }
  if (absl::StrContains(name, ".o_gate_proj.")) {
    return absl::UnimplementedError(
        absl::StrCat(Where(location),
                     " is an attention gate stored apart: only gates inside q_proj, as in the "
                     "published checkpoints, are supported"));
  }
  if (absl::EndsWith(name, ".bias")) {
    return absl::UnimplementedError(
        absl::StrCat(Where(location),
                     " is a bias: the projections of this family have none; serve a "
                     "checkpoint without"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      Where(location), " is none that this model has; does config.json belong to these weights?"));
}

// Refuses every tensor that nothing will read, and notes those that are skipped.
absl::Status CheckNames(const CheckpointFiles& files,
                        const absl::flat_hash_set<std::string>& known,
                        std::vector<std::string>& skipped) {
  for (const auto& file : files.files()) {
    for (const TensorEntry& entry : file->tensors()) {
      if (known.contains(entry.name)) continue;
      if (!IsSkipped(entry.name)) return RefuseUnknown({file.get(), &entry});
      skipped.push_back(entry.name);
    }
  }
  std::sort(skipped.begin(), skipped.end());
  return absl::OkStatus();
}

std::string ShapeHint(const StoredTensor& wanted, const std::vector<int64_t>& found) {
  if (!absl::EndsWith(wanted.name, ".conv1d.weight")) return "";
  const int64_t channels = wanted.shape[0];
  const int64_t kernel = wanted.shape[2];
  if (found == std::vector<int64_t>{channels, kernel}) {
    return " (a squeezed convolution, as MLX and GGUF exports have, is not supported)";
  }
  if (found == std::vector<int64_t>{channels, kernel, 1}) {
    return " (an MLX export, whose norm weights differ too, is not supported)";
  }
  return "";
}

absl::Status CheckTensor(const StoredTensor& wanted, const TensorLocation& location) {
  const TensorEntry& entry = *location.entry;
  if (!entry.dtype) {
    return absl::UnimplementedError(
        absl::StrCat(Where(location), " is ", entry.dtype_name,
                     ": weights must be BF16 or F32; convert the checkpoint to BF16"));
  }
  if (entry.shape != wanted.shape) {
    const std::string hint = ShapeHint(wanted, entry.shape);
    const std::string message =
        absl::StrCat(Where(location), " is ", ShapeText(entry.shape),
                     ": by config.json it must be ", ShapeText(wanted.shape), hint);
    return hint.empty() ? absl::InvalidArgumentError(message) : absl::UnimplementedError(message);
  }
  return absl::OkStatus();
}

// Fills `weight`, whose spec is set; missing tensors are INVALID_ARGUMENT.
absl::Status LocateStored(const CheckpointFiles& files,
                          const std::string& prefix,
                          MatchedWeight& weight) {
  for (const StoredTensor& stored : weight.spec.stored) {
    const std::string name = StoredName(prefix, stored.name);
    const auto location = files.Find(name);
    if (!location) {
      return absl::InvalidArgumentError(
          absl::StrCat(files.directory(), ": tensor ", name,
                       " is missing; is the download complete and config.json of this model?"));
    }
    DS_RETURN_IF_ERROR(CheckTensor(stored, *location));
    const DType dtype = *location->entry->dtype;
    if (!weight.locations.empty() && dtype != weight.dtype) {
      return absl::InvalidArgumentError(
          absl::StrCat(Where(*location), " is ", DTypeName(dtype), " but ",
                       weight.locations.front().entry->name, ", which it is joined with, is ",
                       DTypeName(weight.dtype), "; convert the checkpoint to one dtype"));
    }
    weight.dtype = dtype;
    weight.locations.push_back(*location);
  }
  return absl::OkStatus();
}

// Puts first the form of each weight that the files hold.
void ChooseForms(const CheckpointFiles& files,
                 const std::string& prefix,
                 std::vector<WeightSpec>& table) {
  for (WeightSpec& spec : table) {
    if (spec.alternative.empty()) continue;
    if (!files.Find(StoredName(prefix, spec.stored.front().name)) &&
        files.Find(StoredName(prefix, spec.alternative.front().name))) {
      std::swap(spec.stored, spec.alternative);
    }
  }
}

}  // namespace

absl::StatusOr<TableMatch> MatchTable(const CheckpointFiles& files,
                                      const ModelConfig& config,
                                      std::vector<WeightSpec> table) {
  TableMatch match;
  DS_ASSIGN_OR_RETURN(match.prefix, FindPrefix(files));
  ChooseForms(files, match.prefix, table);
  absl::flat_hash_set<std::string> known;
  for (const WeightSpec& spec : table) {
    for (const StoredTensor& stored : spec.stored) {
      known.insert(StoredName(match.prefix, stored.name));
    }
  }
  DS_RETURN_IF_ERROR(CheckNames(files, known, match.skipped));
  for (WeightSpec& spec : table) {
    if (spec.optional && !files.Find(StoredName(match.prefix, spec.stored.front().name))) {
      if (spec.name == kHead && !config.tie_word_embeddings) {
        match.warnings.emplace_back(
            "lm_head.weight is missing although tie_word_embeddings is false; the embedding is "
            "used in its place");
      }
      continue;
    }
    MatchedWeight weight;
    weight.spec = std::move(spec);
    DS_RETURN_IF_ERROR(LocateStored(files, match.prefix, weight));
    match.weights.push_back(std::move(weight));
  }
  return match;
}

std::string SummarizeNames(const std::vector<std::string>& names) {
  std::map<std::string, int64_t> patterns;
  for (const std::string& name : names) {
    std::vector<std::string> parts = absl::StrSplit(name, '.');
    for (std::string& part : parts) {
      if (std::all_of(part.begin(), part.end(), absl::ascii_isdigit)) part = "*";
    }
    ++patterns[absl::StrJoin(parts, ".")];
  }
  std::string text;
  for (const auto& [pattern, count] : patterns) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", pattern);
    if (count > 1) absl::StrAppend(&text, " (", count, ")");
  }
  return text;
}

}  // namespace deltaserve
