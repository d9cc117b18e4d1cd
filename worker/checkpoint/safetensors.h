#pragma once

// Reads safetensors files: eight bytes of length, a JSON header, data. Headers are checked whole
// when a file is opened, so that no later read can go astray.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "kernels/tensor/dtype.h"
#include "worker/checkpoint/files.h"

namespace deltaserve {

// A tensor as a file's header tells it.
struct TensorEntry {
  std::string name;            // as in the file, prefix included
  std::string dtype_name;      // "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;  // where it is one that this system loads: BF16 or F32
  std::vector<int64_t> shape;
  int64_t offset = 0;  // of the data, from the file's start
  int64_t bytes = 0;
};

// One file. Immutable; any thread.
class SafetensorsFile {
 public:
  // Refuses, naming file and tensor: a file shorter than its header says, a header that is no JSON
  // object or names a tensor twice, an unknown dtype, a shape whose size is not that of its
  // offsets, offsets that overlap, leave gaps or end before or after the file.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);

  const std::string& path() const { return file_->path(); }
  const std::vector<TensorEntry>& tensors() const { return tensors_; }  // ascending by offset

  // Reads `bytes` at `offset` from the file's start.
  absl::Status Read(int64_t offset, int64_t bytes, void* out) const {
    return file_->Read(offset, bytes, out);
  }

 private:
  explicit SafetensorsFile(std::unique_ptr<RandomAccessFile> file) : file_(std::move(file)) {}
  absl::Status ReadHeader();
  absl::Status CheckOffsets(int64_t data_begin);

  std::unique_ptr<RandomAccessFile> file_;
  std::vector<TensorEntry> tensors_;
};

// A tensor and the file that holds it.
struct TensorLocation {
  const SafetensorsFile* file = nullptr;
  const TensorEntry* entry = nullptr;
};

// All safetensors files of a folder. Immutable; any thread.
class CheckpointFiles {
 public:
  // Takes model.safetensors.index.json where there is one, else model.safetensors. Refuses an index
  // and files that disagree: a file that is missing or outside the folder, a tensor that is not in
  // the file the index says or that the index does not name.
  static absl::StatusOr<CheckpointFiles> Open(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const std::vector<std::unique_ptr<SafetensorsFile>>& files() const { return files_; }

  // nullopt where no file has it.
  std::optional<TensorLocation> Find(const std::string& name) const;

 private:
  absl::Status OpenIndexed(const std::string& index_path);
  absl::Status AddFile(const std::string& path);

  std::string directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  absl::flat_hash_map<std::string, TensorLocation> tensors_;
};

}  // namespace deltaserve
