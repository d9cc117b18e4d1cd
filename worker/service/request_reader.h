#pragma once

// TokenRequest, as a router sends it, to the engine's Request.

#include "absl/status/statusor.h"
#include "deltaserve/v1/world.pb.h"
#include "worker/engine/engine.h"
#include "worker/engine/request.h"
#include "worker/service/world_info.h"

namespace deltaserve {

// Refuses by its name every field that is out of range, missing or not done by this version, as
// proto/error.h makes it: INVALID_FIELD, MODEL_NOT_FOUND, UNSUPPORTED. An absent sampling field is
// neutral; stop.max_tokens must be there, and sampling.seed too unless temperature is 0: choosing
// them is the router's matter. Whether the request fits is the engine's. The deadline is left
// infinite. Pure; any thread.
absl::StatusOr<Request> ReadRequest(const v1::TokenRequest& message,
                                    const WorldInfo& info,
                                    const EngineCapacity& capacity);

// NOT_FOUND where `model` is neither empty nor the one this world serves.
absl::Status CheckModel(const std::string& model, const WorldInfo& info);

}  // namespace deltaserve
