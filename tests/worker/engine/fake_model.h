#pragma once

// FakeModel: a Model whose logits are a pure function of the whole history of a sequence, read back
// from the caches that the engine manages; so a wrong block, state, position or token shows.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/models/model.h"

namespace deltaserve {

struct FakeModelOptions {
  int64_t vocab_size = 101;
  int64_t max_context = 4096;
};

// The configuration that FakeModel shards: legal at 1, 2 and 4 ranks.
ModelConfig FakeConfig(const FakeModelOptions& options);

// Raw logits of all ids after `history`.
std::vector<float> FakeLogits(std::span<const int32_t> history, int64_t vocab_size);

// The `count` tokens that greedy decoding gives after `prompt`.
std::vector<int32_t> FakeGreedy(std::vector<int32_t> prompt, int64_t count, int64_t vocab_size);

// Keeps each token in the KV block of its position and a running hash in the recurrent state; both
// must tell the same history (a failed check if not). Rows of the padding of the vocabulary get the
// largest logits of all. Needs a host-addressable device.
absl::StatusOr<std::unique_ptr<Model>> CreateFakeModel(const FakeModelOptions& options,
                                                       int rank,
                                                       int size);

}  // namespace deltaserve
