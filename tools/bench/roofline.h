#pragma once

// The roofline of measurements: FLOP/s against FLOPs a byte, both axes logarithmic.

#include <string>
#include <vector>

#include "tools/bench/limits.h"
#include "tools/bench/measurement.h"

namespace deltaserve::bench {

// An SVG document: the roofs of `limits` (reads, f32, int8) and a numbered point a measurement that
// has both bytes and FLOPs, with a list of what the numbers are. Pure.
std::string RooflineSvg(const std::string& title,
                        const Limits& limits,
                        const std::vector<Measurement>& all);

}  // namespace deltaserve::bench
