#pragma once

// What Describe answers.

#include <string>

#include "deltaserve/v1/world.pb.h"
#include "worker/engine/engine.h"
#include "worker/service/world_info.h"

namespace deltaserve {

// Pure; any thread.
v1::WorldDescription MakeDescription(const WorldInfo& info,
                                     const EngineCapacity& capacity,
                                     const std::string& instance_id);

}  // namespace deltaserve
