#pragma once

// The models that make_checkpoint can write: one table of sizes, forms and seeds.

#include <string>
#include <vector>

#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/weight_table.h"

namespace deltaserve {

// A model with random weights and how its folder is laid out.
struct CheckpointShape {
  std::string name = {};
  std::string purpose = {};  // one line, for --list and --help
  ModelConfig config = {};
  bool golden = false;  // made by --golden with `seed`, byte for byte the same everywhere
  uint64_t seed = 1;
  ExpertForm experts = ExpertForm::kFused;
  bool nested = true;  // config.json with text_config
  std::string prefix = "model.language_model.";
  int num_files = 1;           // more than one: with an index
  bool extra_tensors = false;  // MTP and vision tensors too, which a text server skips
};

// All shapes, goldens after the plain ones.
std::vector<CheckpointShape> AllCheckpointShapes();

}  // namespace deltaserve
