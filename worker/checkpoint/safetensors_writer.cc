#include "worker/checkpoint/safetensors_writer.h"

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 20;

int64_t BytesOf(const TensorToWrite& tensor) {
  return NumElements(tensor.shape) * static_cast<int64_t>(DTypeSize(tensor.dtype));
}

// The eight bytes of length and the JSON, padded so that data begins at a multiple of 8.
std::string Header(const std::vector<TensorToWrite>& tensors) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  int64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    const int64_t end = offset + BytesOf(tensor);
    header[tensor.name] = {{"dtype", DTypeName(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string json = header.dump();
  json.resize((json.size() + 7) / 8 * 8, ' ');
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes.push_back(static_cast<char>((static_cast<uint64_t>(json.size()) >> (8 * i)) & 0xff));
  }
  return bytes + json;
}

void WriteTensor(const TensorToWrite& tensor,
                 ThreadPool& pool,
                 std::vector<char>& buffer,
                 std::ofstream& file) {
  const int64_t count = NumElements(tensor.shape);
  const auto size = static_cast<int64_t>(DTypeSize(tensor.dtype));
  const int64_t round = kPieceElements * pool.num_threads();
  for (int64_t first = 0; first < count; first += round) {
    const int64_t part = std::min(round, count - first);
    buffer.resize(static_cast<size_t>(part * size));
    pool.ParallelFor(part, 4096, [&](int64_t begin, int64_t end, int) {
      tensor.fill(first + begin, end - begin, buffer.data() + begin * size);
    });
    file.write(buffer.data(), part * size);
  }
}

}  // namespace

int64_t DataBytes(const std::vector<TensorToWrite>& tensors) {
  int64_t bytes = 0;
  for (const TensorToWrite& tensor : tensors) bytes += BytesOf(tensor);
  return bytes;
}

absl::Status WriteSafetensors(const std::string& path,
                              const std::vector<TensorToWrite>& tensors,
                              ThreadPool& pool) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const std::string header = Header(tensors);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  std::vector<char> buffer;
  for (const TensorToWrite& tensor : tensors) {
    if (!file) break;
    WriteTensor(tensor, pool, buffer, file);
  }
  file.close();
  if (!file) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot write ", path, ": is the folder writable and is there space?"));
  }
  return absl::OkStatus();
}

}  // namespace deltaserve
