#pragma once

// Writes a checkpoint folder as published ones are laid out, with random weights.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/thread_pool.h"
#include "tools/checkpoint_shapes.h"
#include "tools/embedded_files.h"

namespace deltaserve {

// The text of config.json; `eos_token_id` as in generation_config.json's last id.
std::string ConfigJson(const CheckpointShape& shape, int64_t eos_token_id);

// The tokenizer files of a folder: tokenizer.json, tokenizer_config.json, generation_config.json
// and, where they are there, chat_template.jinja, vocab.json and merges.txt.
absl::StatusOr<std::vector<EmbeddedFile>> ReadTokenizerFiles(const std::string& directory);

// Writes config.json alone into `directory`, for --load=random; the rest as MakeCheckpoint.
absl::Status MakeConfig(const CheckpointShape& shape,
                        const std::vector<EmbeddedFile>& tokenizer,
                        const std::string& directory,
                        bool force);

// Writes config.json, `tokenizer` and the weights of shape.seed into `directory`, which is made.
// ALREADY_EXISTS where it exists and `force` is false; with it, files of a checkpoint in it are
// removed first. INVALID_ARGUMENT where the tokenizer has more tokens than the shape has rows.
absl::Status MakeCheckpoint(const CheckpointShape& shape,
                            const std::vector<EmbeddedFile>& tokenizer,
                            const std::string& directory,
                            bool force,
                            ThreadPool& pool);

// SHA-256 of what `sha256sum *` prints in the folder: a line "HEX  NAME" for each file, by name.
absl::StatusOr<std::string> FolderDigest(const std::string& directory);

}  // namespace deltaserve
