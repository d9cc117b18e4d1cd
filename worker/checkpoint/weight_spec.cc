#include "worker/checkpoint/weight_spec.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace deltaserve {

int64_t NumElements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace deltaserve
