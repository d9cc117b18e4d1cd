#include "tools/output_file.h"

#include <fstream>

#include "absl/strings/str_cat.h"

namespace deltaserve {

absl::Status WriteOutput(const char* flag, const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (file) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      flag, " is ", path, ": it cannot be written; name a file in a folder that is there"));
}

}  // namespace deltaserve
