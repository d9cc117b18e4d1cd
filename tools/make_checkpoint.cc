// deltaserve-make_checkpoint: writes a model folder with random weights of a named shape.

#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "kernels/base/flags.h"
#include "kernels/base/status_macros.h"
#include "tools/checkpoint_maker.h"

namespace deltaserve {
namespace {

constexpr char kChatTemplate[] = "chat_template.jinja";

struct Options {
  std::string shape;
  std::string golden;
  std::string output;
  std::string tokenizer;
  std::string digest;
  uint64_t seed = 1;
  bool force = false;
  bool list = false;
  bool config_only = false;
};

void AddFlags(CommandLine& line, Options& options) {
  std::string names;
  for (const CheckpointShape& shape : AllCheckpointShapes()) {
    if (!shape.golden) absl::StrAppend(&names, names.empty() ? "" : ", ", shape.name);
  }
  line.Add("--shape", &options.shape, "model to write: " + names);
  line.Add("--seed", &options.seed, "of the weights of --shape");
  line.Add("--golden", &options.golden, "golden model to write; --list names them");
  line.Add("--output", &options.output, "folder to make");
  line.Add("--tokenizer", &options.tokenizer,
           "folder whose tokenizer files are copied; default: the 1,000 token fixture that "
           "is built in");
  line.Add("--force", &options.force, "replace the checkpoint files of an existing folder");
  line.Add("--config-only", &options.config_only,
           "write config.json alone: enough for the worker's --load=random:SEED");
  line.Add("--list", &options.list, "print the names of the golden models");
  line.Add("--digest", &options.digest,
           "print the SHA-256 of this folder: that of `sha256sum *` run in it");
}

absl::StatusOr<CheckpointShape> ChosenShape(const Options& options) {
  const bool golden = !options.golden.empty();
  const std::string& name = golden ? options.golden : options.shape;
  std::string known;
  for (CheckpointShape shape : AllCheckpointShapes()) {
    if (shape.golden != golden) continue;
    if (shape.name == name) {
      if (!golden) shape.seed = options.seed;
      return shape;
    }
    absl::StrAppend(&known, known.empty() ? "" : ", ", shape.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(golden ? "--golden" : "--shape", " is \"", name, "\": use one of ", known));
}

absl::Status Make(const Options& options) {
  if (options.shape.empty() == options.golden.empty()) {
    return absl::InvalidArgumentError("--shape and --golden: give one of them");
  }
  if (options.output.empty()) return absl::InvalidArgumentError("--output is missing");
  DS_ASSIGN_OR_RETURN(const CheckpointShape shape, ChosenShape(options));
  std::vector<EmbeddedFile> tokenizer = FixtureTokenizer();
  if (!options.tokenizer.empty()) {
    DS_ASSIGN_OR_RETURN(tokenizer, ReadTokenizerFiles(options.tokenizer));
  } else if (shape.golden) {
    // Goldens are compared byte for byte and hold no conversations.
    std::erase_if(tokenizer, [](const EmbeddedFile& file) { return file.name == kChatTemplate; });
  }
  if (options.config_only) return MakeConfig(shape, tokenizer, options.output, options.force);
  ThreadPool pool(std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 16));
  return MakeCheckpoint(shape, tokenizer, options.output, options.force, pool);
}

absl::Status Run(const Options& options) {
  if (options.list) {
    for (const CheckpointShape& shape : AllCheckpointShapes()) {
      if (shape.golden) std::printf("%s\n", shape.name.c_str());
    }
    return absl::OkStatus();
  }
  if (!options.digest.empty()) {
    DS_ASSIGN_OR_RETURN(const std::string digest, FolderDigest(options.digest));
    std::printf("%s\n", digest.c_str());
    return absl::OkStatus();
  }
  return Make(options);
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) {
  deltaserve::Options options;
  deltaserve::CommandLine flags("make_checkpoint",
                                "Writes a model folder with random weights of a named shape.");
  deltaserve::AddFlags(flags, options);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const absl::Status status = deltaserve::Run(options);
  return status.ok() ? deltaserve::kExitOk : flags.Refuse(status);
}
