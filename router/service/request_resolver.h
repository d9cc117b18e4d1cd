#pragma once

// From what a client asked to what a world is sent: every field checked by name, every absent one
// filled. Pure; any thread.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deltaserve/v1/inference.pb.h"
#include "deltaserve/v1/world.pb.h"
#include "router/worlds/world_view.h"

namespace deltaserve {

// Most answers to one request. Each is a stream of the world and holds a copy of the prompt.
inline constexpr uint32_t kMaxChoices = 128;

// How many answers are asked for: 1 to kMaxChoices once CheckOptions has passed the options.
inline uint32_t NumChoices(const v1::CallOptions& options) {
  return options.has_n() ? options.n() : 1;
}

// What does not come from the client.
struct ResolverDefaults {
  uint32_t max_tokens = 4096;  // where the client says none and there is room
  uint64_t seed = 0;           // drawn, for where the client says none
  std::string request_id;      // drawn, likewise
};

// The request is refused before it is tokenised for: fields out of range (INVALID_FIELD, as
// "<field> must be <range>, got <value>; <remedy>") and what this version does not do
// (UNSUPPORTED). Fields are named as in CallOptions, such as "sampling.top_p".
absl::Status CheckOptions(const v1::CallOptions& options, int64_t num_tokens);

// The request of choice 0 for `prompt`, which CheckOptions has passed. Absent sampling fields come
// from the model's generation_config, then neutral values; stop.max_tokens is min(room, default).
// Errors: INVALID_FIELD (also of n, where answers would all be the same or the world has no places
// for them), UNSUPPORTED (a default of the model that this version does not do), CONTEXT_TOO_LONG
// with the numbers.
absl::StatusOr<v1::TokenRequest> Resolve(const v1::CallOptions& options,
                                         const std::vector<int32_t>& prompt,
                                         const WorldFacts& facts,
                                         const ResolverDefaults& defaults);

// The ids of a prompt sent as tokens. Errors: INVALID_FIELD naming the index.
absl::StatusOr<std::vector<int32_t>> ReadTokens(const v1::TokenIds& tokens,
                                                const std::string& field,
                                                int64_t num_tokens);

}  // namespace deltaserve
