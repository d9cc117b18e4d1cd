#include "worker/checkpoint/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

constexpr int64_t kMostText = int64_t{512} << 20;
constexpr int64_t kMostRead = int64_t{1} << 30;  // Linux moves less than 2 GiB a call

bool Stat(const std::string& path, struct stat& info) { return stat(path.c_str(), &info) == 0; }

}  // namespace

bool IsDirectory(const std::string& path) {
  struct stat info = {};
  return Stat(path, info) && S_ISDIR(info.st_mode);
}

bool IsFile(const std::string& path) {
  struct stat info = {};
  return Stat(path, info) && S_ISREG(info.st_mode);
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const auto file, RandomAccessFile::Open(path));
  if (file->size() > kMostText) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", file->size(), " bytes: at most ",
                                                   kMostText, " are read of a file of this kind"));
  }
  std::string text(static_cast<size_t>(file->size()), '\0');
  DS_RETURN_IF_ERROR(file->Read(0, file->size(), text.data()));
  return text;
}

absl::StatusOr<std::unique_ptr<RandomAccessFile>> RandomAccessFile::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    const int error = errno;
    const std::string message = absl::StrCat("cannot open ", path, ": ", strerror(error));
    if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
    return absl::FailedPreconditionError(message);
  }
  struct stat info = {};
  if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(descriptor);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  return std::unique_ptr<RandomAccessFile>(new RandomAccessFile(path, descriptor, info.st_size));
}

RandomAccessFile::RandomAccessFile(std::string path, int descriptor, int64_t size)
    : path_(std::move(path)), descriptor_(descriptor), size_(size) {}

RandomAccessFile::~RandomAccessFile() { close(descriptor_); }

absl::Status RandomAccessFile::Read(int64_t offset, int64_t bytes, void* out) const {
  auto* destination = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got =
        pread(descriptor_, destination, static_cast<size_t>(std::min(bytes, kMostRead)), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return absl::DataLossError(absl::StrCat("cannot read ", path_, " at byte ", offset, ": ",
                                              got < 0 ? strerror(errno) : "the file ends there",
                                              "; copy the checkpoint again"));
    }
    destination += got;
    offset += got;
    bytes -= got;
  }
  return absl::OkStatus();
}

}  // namespace deltaserve
