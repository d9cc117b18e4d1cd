#pragma once

// One rendering's account of steps, depth and memory, and the maker of its values.
// Threads: one. Must outlive every value that it made.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/text/template/cat.h"
#include "router/text/template/limits.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

class Runtime {
 public:
  Runtime(const Limits& limits, absl::Time now, absl::TimeZone zone)
      : limits_(limits), now_(now), zone_(zone) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  // Lets go of namespaces that hold themselves.
  ~Runtime();

  // ResourceExhausted past max_steps.
  absl::Status Step(int64_t steps = 1);
  // The steps of working through `bytes` of text.
  absl::Status Work(size_t bytes) { return Step(static_cast<int64_t>(bytes / 64 + 1)); }
  // ResourceExhausted where `bytes` more would pass max_memory_bytes.
  absl::Status CheckRoom(size_t bytes) const;
  void Reserve(size_t bytes) { memory_bytes_ += bytes; }
  void Release(size_t bytes) { memory_bytes_ -= bytes; }

  // These make values. Errors: ResourceExhausted.
  absl::StatusOr<Value> String(std::string text, bool is_safe = false);
  absl::StatusOr<Value> List(std::vector<Value> items);
  absl::StatusOr<Value> Tuple(std::vector<Value> items);
  absl::StatusOr<Value> Dict(std::shared_ptr<DictObject> dict);
  absl::StatusOr<Value> Namespace();
  absl::StatusOr<Value> Undefined(std::string message);
  absl::StatusOr<Value> Method(const Value& self, std::string name);
  absl::StatusOr<Value> View(const Value& dict, DictViewObject::Kind kind);
  absl::StatusOr<Value> Range(Int start, Int stop, Int step);
  // `inner_depth`: that of what the iterator holds, which are `bytes` besides what other values
  // are.
  absl::StatusOr<Value> Generator(std::shared_ptr<Iterator> iterator,
                                  int inner_depth,
                                  size_t bytes = 0);
  // An object of another kind, of about `bytes`.
  absl::StatusOr<Value> Adopt(Type type,
                              std::shared_ptr<Object> object,
                              size_t bytes,
                              int inner_depth);

  const Limits& limits() const { return limits_; }
  absl::Time now() const { return now_; }
  absl::TimeZone zone() const { return zone_; }

 private:
  friend class DepthScope;

  const Limits limits_;
  const absl::Time now_;
  const absl::TimeZone zone_;
  int64_t steps_ = 0;
  int depth_ = 0;
  size_t memory_bytes_ = 0;
  std::vector<std::shared_ptr<NamespaceObject>> namespaces_;
};

// One level deeper for as long as it lives.
class DepthScope {
 public:
  explicit DepthScope(Runtime* runtime) : runtime_(runtime) { ++runtime_->depth_; }
  DepthScope(const DepthScope&) = delete;
  DepthScope& operator=(const DepthScope&) = delete;
  ~DepthScope() { --runtime_->depth_; }

  // ResourceExhausted past max_depth.
  absl::Status Check() const;

 private:
  Runtime* const runtime_;
};

// Text that is being written; it counts as memory until it is taken.
class Buffer {
 public:
  explicit Buffer(Runtime* runtime) : runtime_(runtime) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { runtime_->Release(text_.size()); }

  // ResourceExhausted past max_output_bytes or max_memory_bytes.
  absl::Status Append(std::string_view text);
  std::string Take();

 private:
  Runtime* const runtime_;
  std::string text_;
};

// InvalidArgument with the pieces joined: what a template or its variables did wrong.
template <typename... Pieces>
absl::Status Wrong(const Pieces&... pieces) {
  return absl::InvalidArgumentError(Cat(pieces...));
}

}  // namespace deltaserve::jinja
