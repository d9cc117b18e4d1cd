#pragma once

// What a router knows of a world: values, without gRPC.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deltaserve/v1/world.pb.h"
#include "router/text/chat_template.h"
#include "router/text/text_assets.h"
#include "router/text/tokenizer.h"

namespace deltaserve {

// The text side of one model. Immutable.
struct ModelText {
  std::string digest;
  std::unique_ptr<const Tokenizer> tokenizer;
  GenerationDefaults defaults;
  std::vector<int32_t> eos_token_ids;
  // A model without a template that works is still served: without conversations.
  absl::StatusOr<std::unique_ptr<const ChatTemplate>> chat_template =
      absl::UnknownError("not read");

  // `files` as a world served them under `digest`. Errors: DataLoss where their digest is another,
  // else those of the tokenizer and of generation_config.json.
  static absl::StatusOr<std::shared_ptr<const ModelText>> Make(
      std::map<std::string, std::string> files, const std::string& digest);
};

// What a world said at its start. Immutable.
struct WorldFacts {
  v1::WorldDescription description;  // of one model
  std::shared_ptr<const ModelText> text;

  const v1::ServedModel& model() const { return description.models(0); }
};

enum class WorldState {
  kConnecting,  // never reached yet
  kStarting,    // its ranks load
  kReady,
  kDraining,  // runs what it has, takes no more
  kLost,      // was reached once, and is not now, or reports that it cannot serve
};
const char* StateName(WorldState state);

// A snapshot.
struct WorldView {
  std::string address;
  WorldState state = WorldState::kConnecting;
  std::string cause;                        // why it is not ready
  std::shared_ptr<const WorldFacts> facts;  // null until first reached
  v1::Load load;                            // of the last report
  uint32_t in_flight = 0;                   // our own streams there
};

}  // namespace deltaserve
