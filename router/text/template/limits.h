#pragma once

// What one rendering may use, so that a hostile template or message cannot hang or exhaust a
// router.

#include <cstddef>
#include <cstdint>

namespace deltaserve::jinja {

// Passing a bound ends the rendering with ResourceExhausted, naming the bound.
struct Limits {
  int max_depth = 400;        // levels of blocks, expressions and macro calls inside each other
  int max_value_depth = 200;  // lists and dicts inside each other, in the variables too
  int64_t max_steps = 20'000'000;  // nodes evaluated, items visited, and 64-byte pieces of text
  size_t max_output_bytes = size_t{32} << 20;
  size_t max_memory_bytes = size_t{256} << 20;  // of values alive at one time
};

}  // namespace deltaserve::jinja
