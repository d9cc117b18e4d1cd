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

// The request for `prompt`, which CheckOptions has passed. Absent sampling fields come from the
// model's generation_config, then neutral values; stop.max_tokens is min(room, default). Errors:
// INVALID_FIELD, UNSUPPORTED (a default of the model that this version does not do),
// CONTEXT_TOO_LONG with the numbers.
absl::StatusOr<v1::TokenRequest> Resolve(const v1::CallOptions& options,
                                         const std::vector<int32_t>& prompt,
                                         const WorldFacts& facts,
                                         const ResolverDefaults& defaults);

// The ids of a prompt sent as tokens. Errors: INVALID_FIELD naming the index.
absl::StatusOr<std::vector<int32_t>> ReadTokens(const v1::TokenIds& tokens,
                                                const std::string& field,
                                                int64_t num_tokens);

}  // namespace deltaserve
