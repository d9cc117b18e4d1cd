#include "router/worlds/world_view.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/text_digest.h"

namespace deltaserve {

absl::StatusOr<std::shared_ptr<const ModelText>> ModelText::Make(
    std::map<std::string, std::string> files, const std::string& digest) {
  const std::string found = TextDigest(files);
  if (found != digest) {
    return absl::DataLossError(absl::StrCat("text files have digest ", found,
                                            " where the world announced ", digest,
                                            "; restart the world"));
  }
  TextAssets assets{.files = std::move(files)};
  auto text = std::make_shared<ModelText>();
  text->digest = digest;
  DS_ASSIGN_OR_RETURN(text->tokenizer, assets.MakeTokenizer());
  DS_ASSIGN_OR_RETURN(text->defaults,
                      GenerationDefaults::Parse(assets.Bytes(kGenerationConfigFile)));
  DS_ASSIGN_OR_RETURN(text->eos_token_ids, EosTokenIds(*text->tokenizer, text->defaults));
  text->chat_template = ChatTemplate::Create(assets);
  return text;
}

const char* StateName(WorldState state) {
  switch (state) {
    case WorldState::kConnecting:
      return "not reached yet";
    case WorldState::kStarting:
      return "starting";
    case WorldState::kReady:
      return "ready";
    case WorldState::kDraining:
      return "draining";
    case WorldState::kLost:
      return "lost";
  }
  return "unknown";
}

}  // namespace deltaserve
