#pragma once

// Reading files of a checkpoint folder: small ones whole, large ones by byte range.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace deltaserve {

bool IsDirectory(const std::string& path);
bool IsFile(const std::string& path);

// The whole file. NOT_FOUND or INVALID_ARGUMENT naming the path; at most 512 MiB.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// A file opened for reading by offset. Any thread. Closes on destruction.
class RandomAccessFile {
 public:
  static absl::StatusOr<std::unique_ptr<RandomAccessFile>> Open(const std::string& path);
  ~RandomAccessFile();
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }  // when it was opened

  // Reads `bytes` bytes at `offset`. DATA_LOSS where the file ends before or cannot be read.
  absl::Status Read(int64_t offset, int64_t bytes, void* out) const;

 private:
  RandomAccessFile(std::string path, int descriptor, int64_t size);

  const std::string path_;
  const int descriptor_;
  const int64_t size_;
};

}  // namespace deltaserve
