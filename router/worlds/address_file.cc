#include "router/worlds/address_file.h"

#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace deltaserve {
namespace {

constexpr size_t kMostBytes = 300;  // a host name has 253 at most

// Which writing of a file this is: each rename has its own inode and time.
using Edition = std::tuple<ino_t, time_t, int64_t, off_t>;

std::optional<Edition> EditionOf(const std::string& path) {
  struct stat facts {};
  if (stat(path.c_str(), &facts) != 0) return std::nullopt;
  return Edition(facts.st_ino, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec, facts.st_size);
}

bool IsHostPort(const std::string& text) {
  const size_t colon = text.rfind(':');
  int port = 0;
  return colon != std::string::npos && colon > 0 &&
         absl::SimpleAtoi(text.substr(colon + 1), &port) && port >= 1 && port <= 65535;
}

absl::StatusOr<std::string> Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(kMostBytes, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  absl::StripAsciiWhitespace(&text);
  if (text.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no address in ", path, ": its world is not ready, or is gone"));
  }
  if (!IsHostPort(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " holds \"", text, "\", which is no HOST:PORT of a world"));
  }
  return text;
}

}  // namespace

AddressFile::AddressFile(std::string path, absl::Duration interval, OnChange on_change)
    : path_(std::move(path)), interval_(interval), on_change_(std::move(on_change)) {
  thread_ = std::thread(&AddressFile::Run, this);
}

AddressFile::~AddressFile() {
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void AddressFile::Run() {
  const auto stopping = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_; };
  std::optional<Edition> last;
  bool is_first = true;
  while (true) {
    // Before the read: what is written in between is read again.
    std::optional<Edition> edition = EditionOf(path_);
    if (is_first || edition != last) {
      on_change_(Read(path_));
      is_first = false;
      last = std::move(edition);
    }
    const absl::MutexLock lock(&mutex_);
    if (mutex_.AwaitWithTimeout(absl::Condition(&stopping), interval_)) return;
  }
}

}  // namespace deltaserve
