#include "worker/checkpoint/config_refusals.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "worker/checkpoint/json_fields.h"

namespace deltaserve {
namespace {

using Json = nlohmann::json;

// A field of the text config that is taken with the values shown (JSON text), or absent, alone.
struct FixedField {
  const char* name;
  std::vector<const char*> accepted;
  const char* remedy;
};

std::vector<FixedField> FixedFields() {
  return {
      {"hidden_act", {"\"silu\""}, "only silu is supported"},
      {"attention_bias", {"false"}, "the projections of this family have no bias"},
      {"attn_output_gate",
       {"true"},
       "attention without its output gate is another model and is not supported"},
      {"output_gate_type",
       {"\"swish\"", "\"silu\""},
       "only swish (silu) gates are supported, the default where the field is absent"},
      {"layer_scale", {"false"}, "layer scales are not supported"},
      {"mlp_only_layers", {"[]"}, "layers without experts among layers with them are unsupported"},
      {"decoder_sparse_step", {"1"}, "every layer must have experts"},
      {"use_sliding_window", {"false"}, "attention windows are not supported"},
      {"mtp_use_dedicated_embeddings",
       {"false"},
       "an MTP head with embeddings of its own is not supported"},
  };
}

absl::Status RefuseQuantised(const Json& object, const char* where) {
  JsonFields fields(object);
  if (!fields.Has("quantization_config")) return absl::OkStatus();
  const Json& value = object.at("quantization_config");
  std::string method = "unknown";
  if (value.is_object() && value.contains("quant_method")) {
    method = ShownJson(value["quant_method"]);
  }
  return absl::UnimplementedError(
      absl::StrCat(where, "quantization_config has quant_method ", method,
                   ": quantised checkpoints are not supported; serve the BF16 release"));
}

}  // namespace

absl::Status RefuseUnsupportedFields(const Json& root, const Json& text) {
  DS_RETURN_IF_ERROR(RefuseQuantised(root, ""));
  if (&root != &text) DS_RETURN_IF_ERROR(RefuseQuantised(text, "text_config."));
  JsonFields fields(text);
  for (const FixedField& field : FixedFields()) {
    if (!fields.Has(field.name)) continue;
    const std::string shown = fields.Shown(field.name);
    const bool accepted = std::any_of(field.accepted.begin(), field.accepted.end(),
                                      [&](const char* value) { return shown == value; });
    if (!accepted) {
      fields.RefuseUnsupported(absl::StrCat(field.name, " is ", shown, ": ", field.remedy,
                                            "; it must be ", field.accepted.front(), " or absent"));
    }
  }
  for (const char* name : {"dtype", "torch_dtype"}) {
    for (const Json* object : {&root, &text}) {
      const std::string shown = JsonFields(*object).Shown(name);
      if (shown == "absent" || shown == "\"bfloat16\"" || shown == "\"float32\"") continue;
      fields.RefuseUnsupported(absl::StrCat(name, " is ", shown,
                                            ": weights must be bfloat16 or float32; convert the "
                                            "checkpoint to bfloat16"));
    }
  }
  return fields.status();
}

}  // namespace deltaserve
