#include "kernels/base/write_address.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace deltaserve {

absl::Status WriteAddress(const std::string& path, const std::string& address) {
  if (path == kStandardOutput) {
    std::fprintf(stdout, "%s\n", address.c_str());
    std::fflush(stdout);
    return absl::OkStatus();
  }
  const std::string partial = path + ".partial";
  std::ofstream out(partial, std::ios::trunc);
  out << address << "\n";
  out.close();
  if (!out || std::rename(partial.c_str(), path.c_str()) != 0) {
    const std::string why = std::strerror(errno);
    std::remove(partial.c_str());
    return absl::InvalidArgumentError(absl::StrCat(
        "--address-file is ", path, ": ", why, "; name a file in a folder that can be written"));
  }
  return absl::OkStatus();
}

}  // namespace deltaserve
