#include "worker/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/json_fields.h"
#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {
namespace {

using Json = nlohmann::json;

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMostHeaderBytes = 100'000'000;  // as the format's own reader
constexpr int64_t kMostElements = int64_t{1} << 48;
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";

struct DTypeRow {
  const char* name;
  int64_t size;
};
constexpr DTypeRow kDTypes[] = {{"BOOL", 1},    {"U8", 1},      {"I8", 1},  {"F8_E4M3", 1},
                                {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"U16", 2}, {"I16", 2},
                                {"F16", 2},     {"BF16", 2},    {"U32", 4}, {"I32", 4},
                                {"F32", 4},     {"U64", 8},     {"I64", 8}, {"F64", 8}};

// 0: unknown.
int64_t SizeOf(const std::string& dtype) {
  for (const DTypeRow& row : kDTypes) {
    if (dtype == row.name) return row.size;
  }
  return 0;
}

std::optional<DType> LoadableDType(const std::string& dtype) {
  if (dtype == "BF16") return DType::kBF16;
  if (dtype == "F32") return DType::kF32;
  return std::nullopt;
}

std::optional<std::vector<int64_t>> WholeNumbers(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_array()) return std::nullopt;
  std::vector<int64_t> numbers;
  for (const Json& value : *found) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > (uint64_t{1} << 62)) {
      return std::nullopt;
    }
    numbers.push_back(value.get<int64_t>());
  }
  return numbers;
}

// nullopt where the product is beyond all reason.
std::optional<int64_t> CheckedElements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size != 0 && count > kMostElements / size) return std::nullopt;
    count *= size;
  }
  return count;
}

// One entry of the header. Messages begin with the tensor's name.
absl::StatusOr<TensorEntry> ParseEntry(const std::string& name,
                                       const Json& object,
                                       int64_t data_begin) {
  const auto refuse = [&](const std::string& problem) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " ", problem));
  };
  if (!object.is_object()) return refuse("has no description in the header");
  const auto dtype = object.find("dtype");
  if (dtype == object.end() || !dtype->is_string()) return refuse("has no dtype");
  TensorEntry entry;
  entry.name = name;
  entry.dtype_name = dtype->get<std::string>();
  entry.dtype = LoadableDType(entry.dtype_name);
  const int64_t size = SizeOf(entry.dtype_name);
  if (size == 0) {
    return refuse(absl::StrCat("has the unknown dtype ", entry.dtype_name,
                               "; convert the checkpoint to BF16"));
  }
  const auto shape = WholeNumbers(object, "shape");
  const auto offsets = WholeNumbers(object, "data_offsets");
  if (!shape) return refuse("has no shape of whole numbers");
  if (!offsets || offsets->size() != 2 || (*offsets)[0] > (*offsets)[1]) {
    return refuse("has no data_offsets [begin, end]");
  }
  entry.shape = *shape;
  entry.bytes = (*offsets)[1] - (*offsets)[0];
  entry.offset = data_begin + (*offsets)[0];
  const auto elements = CheckedElements(entry.shape);
  if (!elements || *elements * size != entry.bytes) {
    return refuse(absl::StrCat("is ", entry.dtype_name, ShapeText(entry.shape), " but has ",
                               entry.bytes, " bytes; copy the checkpoint again"));
  }
  return entry;
}

// Parses the header; a name that stands twice goes to `twice`.
Json ParseHeader(const std::string& text, std::string& twice) {
  absl::flat_hash_set<std::string> names;
  const auto note = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1 &&
        !names.insert(parsed.get<std::string>()).second) {
      twice = parsed.get<std::string>();
    }
    return true;
  };
  return Json::parse(text, note, /*allow_exceptions=*/false);
}

absl::Status In(const std::string& path, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", std::string(status.message())));
}

// weight_map of an index: tensor -> file.
absl::StatusOr<std::map<std::string, std::string>> ReadWeightMap(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  const Json index = Json::parse(text, nullptr, false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": it has no weight_map object; copy the checkpoint again"));
  }
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || name.find('/') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": weight_map puts ", tensor, " in ", ShownJson(file),
                       ": it must be the name of a file in the same folder"));
    }
    map[tensor] = name;
  }
  return map;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  DS_ASSIGN_OR_RETURN(auto raw, RandomAccessFile::Open(path));
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile(std::move(raw)));
  DS_RETURN_IF_ERROR(In(path, file->ReadHeader()));
  return file;
}

absl::Status SafetensorsFile::ReadHeader() {
  if (file_->size() < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "it has ", file_->size(), " bytes: no safetensors file; copy the checkpoint again"));
  }
  std::array<unsigned char, kLengthBytes> length_bytes;
  DS_RETURN_IF_ERROR(file_->Read(0, kLengthBytes, length_bytes.data()));
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = (length << 8) | length_bytes[i];
  if (length > static_cast<uint64_t>(file_->size() - kLengthBytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("its header of ", length, " bytes is longer than the file of ", file_->size(),
                     " bytes; copy the checkpoint again"));
  }
  if (length > kMostHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("its header has ", length, " bytes: at most ",
                                                   kMostHeaderBytes, " are taken"));
  }
  const auto header_bytes = static_cast<int64_t>(length);
  std::string text(length, '\0');
  DS_RETURN_IF_ERROR(file_->Read(kLengthBytes, header_bytes, text.data()));
  std::string twice;
  const Json header = ParseHeader(text, twice);
  if (!header.is_object()) {
    return absl::InvalidArgumentError("its header is not a JSON object; copy the checkpoint again");
  }
  if (!twice.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("its header names tensor ", twice, " twice"));
  }
  for (const auto& [name, object] : header.items()) {
    if (name == "__metadata__") continue;
    DS_ASSIGN_OR_RETURN(TensorEntry entry, ParseEntry(name, object, kLengthBytes + header_bytes));
    tensors_.push_back(std::move(entry));
  }
  return CheckOffsets(kLengthBytes + header_bytes);
}

absl::Status SafetensorsFile::CheckOffsets(int64_t data_begin) {
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  int64_t end = data_begin;
  for (const TensorEntry& entry : tensors_) {
    if (entry.offset != end) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", entry.name, " begins at byte ", entry.offset - data_begin, " of the data: it ",
          entry.offset < end ? "overlaps the tensor before it" : "leaves a gap", ", which ends at ",
          end - data_begin));
    }
    end += entry.bytes;
    if (end > file_->size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", entry.name, " ends at byte ", end, " but the file has ",
                       file_->size(), ": it is truncated; copy the checkpoint again"));
    }
  }
  if (end != file_->size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file has ", file_->size() - end, " bytes after its last tensor"));
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointFiles> CheckpointFiles::Open(const std::string& directory) {
  CheckpointFiles files;
  files.directory_ = directory;
  if (!IsDirectory(directory)) {
    return absl::NotFoundError(absl::StrCat(directory, " is not a folder; give a model folder"));
  }
  const std::string index = absl::StrCat(directory, "/", kIndexName);
  const std::string single = absl::StrCat(directory, "/", kSingleName);
  if (IsFile(index)) {
    DS_RETURN_IF_ERROR(files.OpenIndexed(index));
  } else if (IsFile(single)) {
    DS_RETURN_IF_ERROR(files.AddFile(single));
  } else {
    return absl::NotFoundError(
        absl::StrCat(directory, " has neither ", kIndexName, " nor ", kSingleName,
                     ": only safetensors weights are read; is the download complete?"));
  }
  return files;
}

absl::Status CheckpointFiles::OpenIndexed(const std::string& index_path) {
  DS_ASSIGN_OR_RETURN(const auto map, ReadWeightMap(index_path));
  std::set<std::string> names;
  for (const auto& [tensor, file] : map) names.insert(file);
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(directory_, "/", name);
    if (!IsFile(path)) {
      return absl::NotFoundError(
          absl::StrCat(path, " is missing: ", kIndexName, " names it; is the download complete?"));
    }
    DS_RETURN_IF_ERROR(AddFile(path));
  }
  for (const auto& [tensor, file] : map) {
    const auto found = tensors_.find(tensor);
    const std::string path = absl::StrCat(directory_, "/", file);
    if (found == tensors_.end() || found->second.file->path() != path) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": tensor ", tensor, " is not in it although ", kIndexName, " says so"));
    }
  }
  for (const auto& [tensor, location] : tensors_) {
    if (map.count(tensor) != 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(location.file->path(), ": tensor ", tensor, " is not named by ", kIndexName));
  }
  return absl::OkStatus();
}

absl::Status CheckpointFiles::AddFile(const std::string& path) {
  DS_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(path));
  for (const TensorEntry& entry : file->tensors()) {
    const auto [place, added] =
        tensors_.try_emplace(entry.name, TensorLocation{file.get(), &entry});
    if (!added) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", entry.name, " is in ",
                                                     place->second.file->path(), " and in ", path));
    }
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

std::optional<TensorLocation> CheckpointFiles::Find(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return std::nullopt;
  return found->second;
}

}  // namespace deltaserve
