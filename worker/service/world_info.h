#pragma once

// WorldInfo: what a world says of itself, fixed at start. Filled by the worker's main, answered by
// Describe and GetTextAssets.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "deltaserve/v1/world.pb.h"

namespace deltaserve {

// A plain value. What the engine knows (context, vocabulary, pools) is not repeated here: the
// service takes it from EngineHandle::capacity().
struct WorldInfo {
  std::string model_id;             // what clients name in `model`
  std::string weights_fingerprint;  // hexadecimal SHA-256, and +int8 where quantised
  // Text files of the checkpoint by name (tokenizer.json, ...), as bytes. Served as they are.
  std::map<std::string, std::string> text_assets;
  std::vector<int32_t> eos_token_ids;
  std::string generation_defaults_json;   // bytes of generation_config.json, or empty
  std::vector<std::string> capabilities;  // as ServedModel.capabilities
  uint32_t block_tokens = 64;             // tokens a KV block holds
  v1::Layout layout;
  v1::Numerics numerics;
  std::vector<v1::RankInfo> ranks;
};

}  // namespace deltaserve
