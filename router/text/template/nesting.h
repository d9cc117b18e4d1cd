#pragma once

#include <cstddef>

namespace deltaserve::jinja {

// Bounds of a template's source, so that no template can exhaust the stack of the thread that
// parses it or destroys it, nor its time.
inline constexpr size_t kMaxSourceBytes = size_t{1} << 20;
inline constexpr size_t kMaxNameBytes = 1000;  // of a variable, an attribute, a filter
inline constexpr size_t kMaxArguments = 1000;  // of one call, and parameters of one macro
inline constexpr int kMaxNesting = 200;        // brackets, blocks and signs inside each other
inline constexpr int kMaxTreeDepth = 250;      // of one expression, chains of operators included

// One level deeper for as long as it lives.
class Nesting {
 public:
  explicit Nesting(int* level) : level_(level) { ++*level_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;
  ~Nesting() { --*level_; }

 private:
  int* const level_;
};

}  // namespace deltaserve::jinja
