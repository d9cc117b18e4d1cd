#pragma once

// The parts of OpGroups(), by what is computed.

#include <vector>

#include "tools/bench/op_cases.h"

namespace deltaserve::bench {

std::vector<OpGroup> LinearGroups();
std::vector<OpGroup> GatedDeltaNetGroups();
std::vector<OpGroup> AttentionGroups();
std::vector<OpGroup> ExpertGroups();
std::vector<OpGroup> RowGroups();  // norms, activation, routing, sampling

}  // namespace deltaserve::bench
