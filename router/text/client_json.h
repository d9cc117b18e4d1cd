#pragma once

// JSON that clients send: whatever they nest, repeat or count to, reading it costs a bounded stack
// and time in proportion to the text. Pure; any thread.

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace deltaserve {

// Members of one object, at most. Depth: kMaxJsonDepth.
inline constexpr size_t kMaxJsonMembers = 4096;

// Where a text comes from.
struct ClientJsonSource {
  std::string field;                // what errors call it
  std::string remedy;               // where it is no JSON, or no object
  bool members_are_fields = false;  // errors name the member "a" a, not <field>.a
  size_t max_values = 200'000;      // of lists, objects and what is in them
};

// `text` as one value; of members of one name the last counts, at the place of the first. Errors:
// INVALID_FIELD where it is no JSON or passes a bound, naming the value inside that does, such as
// "template_args_json.a[3]"; an integer beyond 64 bits is refused too, since it would lose digits.
absl::StatusOr<nlohmann::ordered_json> ReadClientJson(std::string_view text,
                                                      const ClientJsonSource& source);

// The same, and INVALID_FIELD where it is no object.
absl::StatusOr<nlohmann::ordered_json> ReadClientObject(std::string_view text,
                                                        const ClientJsonSource& source);

// `value` as JSON on one line; what is not UTF-8 in it becomes U+FFFD.
std::string DumpJson(const nlohmann::ordered_json& value);

}  // namespace deltaserve
