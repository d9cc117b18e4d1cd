#pragma once

// Which text of a request that cannot be read is not UTF-8. Pure; any thread.

#include <optional>
#include <string>
#include <string_view>

#include "google/protobuf/descriptor.h"

namespace deltaserve {

struct BadText {
  std::string field;  // its path, such as options.stop_strings[1]
  std::string value;
};

// The first string field in `bytes`, a serialised message of `type`, that holds no UTF-8; nullopt
// where there is none up to the first byte that is wrong otherwise.
std::optional<BadText> FindTextNotUtf8(std::string_view bytes,
                                       const google::protobuf::Descriptor& type);

}  // namespace deltaserve
