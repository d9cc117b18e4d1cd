#include "worker/checkpoint/safetensors.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/checkpoint/checkpoint_fixture.h"
#include "worker/checkpoint/sha256.h"

namespace deltaserve {
namespace {

using testing::HasSubstr;

std::string OpenError(const std::string& bytes) {
  const std::string path = EmptyFolder() + "/x.safetensors";
  WriteBytes(path, bytes);
  const auto file = SafetensorsFile::Open(path);
  EXPECT_FALSE(file.ok());
  EXPECT_THAT(std::string(file.status().message()), HasSubstr(path));
  return std::string(file.status().message());
}

TEST(SafetensorsTest, ReadsWhatTheWriterWrites) {
  const std::string path = EmptyFolder() + "/x.safetensors";
  ThreadPool pool(3);
  const auto fill = [](int64_t first, int64_t count, void* out) {
    for (int64_t i = 0; i < count; ++i) {
      static_cast<float*>(out)[i] = static_cast<float>(first + i);
    }
  };
  // More than one round of pieces for the pool.
  const int64_t rows = (int64_t{1} << 20) + 3;
  ASSERT_TRUE(
      WriteSafetensors(path,
                       {{.name = "a", .dtype = DType::kF32, .shape = {3}, .fill = fill},
                        {.name = "b", .dtype = DType::kF32, .shape = {rows, 4}, .fill = fill}},
                       pool)
          .ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ((*file)->tensors().size(), 2U);
  const TensorEntry& b = (*file)->tensors()[1];
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.shape, std::vector<int64_t>({rows, 4}));
  EXPECT_EQ(b.offset % 4, 0);
  std::vector<float> values(static_cast<size_t>(rows * 4));
  ASSERT_TRUE((*file)->Read(b.offset, b.bytes, values.data()).ok());
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<float>(i));
}

struct BadFile {
  const char* what;
  std::string bytes;
  const char* message;
};

std::vector<BadFile> BadFiles() {
  const std::string ten(10, 'x');
  return {
      {"short", "abc", "it has 3 bytes: no safetensors file"},
      {"long header", WithLength("{}").substr(0, 9), "header of 2 bytes is longer than the file"},
      {"huge header", std::string(8, '\xff') + "{}", "is longer than the file of 10 bytes"},
      {"no JSON", WithLength("{\"a\": "), "its header is not a JSON object"},
      {"array", WithLength("[1, 2]"), "its header is not a JSON object"},
      {"not UTF-8", WithLength("{\"\xff\": 1}"), "its header is not a JSON object"},
      {"twice",
       WithLength(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                  R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                  "x"),
       "its header names tensor a twice"},
      {"no description", WithLength(R"({"a":3})"), "tensor a has no description"},
      {"no dtype", WithLength(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", "x"),
       "tensor a has no dtype"},
      {"unknown dtype", WithLength(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", "x"),
       "tensor a has the unknown dtype F4"},
      {"no shape", WithLength(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", "x"),
       "tensor a has no shape of whole numbers"},
      {"negative shape",
       WithLength(R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "x"),
       "tensor a has no shape of whole numbers"},
      {"no offsets", WithLength(R"({"a":{"dtype":"U8","shape":[1]}})", "x"),
       "tensor a has no data_offsets [begin, end]"},
      {"one offset", WithLength(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", "x"),
       "tensor a has no data_offsets [begin, end]"},
      {"backward offsets",
       WithLength(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", "x"),
       "tensor a has no data_offsets [begin, end]"},
      {"size", WithLength(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,10]}})", ten),
       "tensor a is F32[2] but has 10 bytes"},
      {"overflow",
       WithLength(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})"),
       "tensor a is U8[4294967296, 4294967296] but has 0 bytes"},
      {"overlap",
       WithLength(R"({"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},)"
                  R"("b":{"dtype":"U8","shape":[6],"data_offsets":[4,10]}})",
                  ten),
       "tensor b begins at byte 4 of the data: it overlaps the tensor before it"},
      {"gap",
       WithLength(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                  R"("b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})",
                  ten),
       "tensor b begins at byte 6 of the data: it leaves a gap"},
      {"truncated", WithLength(R"({"a":{"dtype":"U8","shape":[11],"data_offsets":[0,11]}})", ten),
       "it is truncated; copy the checkpoint again"},
      {"rest", WithLength(R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", ten),
       "the file has 1 bytes after its last tensor"},
  };
}

TEST(SafetensorsTest, RefusesBadFilesByName) {
  for (const BadFile& row : BadFiles()) {
    SCOPED_TRACE(row.what);
    EXPECT_THAT(OpenError(row.bytes), HasSubstr(row.message));
  }
}

TEST(SafetensorsTest, NoPrefixOfAFileIsTaken) {
  std::string whole = SafetensorsBytes({{"a", "U8", {3}, "abc"}, {"b", "U8", {2}, "de"}});
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(OpenError(whole.substr(0, size)).empty());
  }
}

FileTensor Byte(const std::string& name) { return {name, "U8", {1}, "x"}; }

TEST(CheckpointFilesTest, FindsTensorsThroughTheIndex) {
  const std::string folder = EmptyFolder();
  WriteIndexed(folder, {Byte("a"), Byte("b"), Byte("c")}, 2);
  const auto files = CheckpointFiles::Open(folder);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->files().size(), 2U);
  ASSERT_TRUE(files->Find("b").has_value());
  EXPECT_THAT(files->Find("b")->file->path(), HasSubstr("weights-1"));
  EXPECT_FALSE(files->Find("d").has_value());
}

struct BadFolder {
  const char* what;
  std::function<void(const std::string& folder)> write;
  const char* message;
};

void WriteIndex(const std::string& folder, const std::string& json) {
  WriteBytes(folder + "/model.safetensors.index.json", json);
}

std::vector<BadFolder> BadFolders() {
  return {
      {"empty", [](const std::string&) {}, "has neither model.safetensors.index.json nor"},
      {"index no JSON", [](const std::string& folder) { WriteIndex(folder, "{"); },
       "it has no weight_map object"},
      {"index without map", [](const std::string& folder) { WriteIndex(folder, "{}"); },
       "it has no weight_map object"},
      {"outside",
       [](const std::string& folder) {
         WriteIndex(folder, R"({"weight_map": {"a": "../x.safetensors"}})");
       },
       "weight_map puts a in \"../x.safetensors\": it must be the name of a file in the same"},
      {"missing file",
       [](const std::string& folder) {
         WriteIndex(folder, R"({"weight_map": {"a": "x.safetensors"}})");
       },
       "x.safetensors is missing: model.safetensors.index.json names it"},
      {"missing tensor",
       [](const std::string& folder) {
         WriteBytes(folder + "/x.safetensors", SafetensorsBytes({Byte("b")}));
         WriteIndex(folder, R"({"weight_map": {"a": "x.safetensors", "b": "x.safetensors"}})");
       },
       "tensor a is not in it although model.safetensors.index.json says so"},
      {"unnamed tensor",
       [](const std::string& folder) {
         WriteBytes(folder + "/x.safetensors", SafetensorsBytes({Byte("a"), Byte("b")}));
         WriteIndex(folder, R"({"weight_map": {"a": "x.safetensors"}})");
       },
       "tensor b is not named by model.safetensors.index.json"},
      {"in two files",
       [](const std::string& folder) {
         WriteBytes(folder + "/x.safetensors", SafetensorsBytes({Byte("a")}));
         WriteBytes(folder + "/y.safetensors", SafetensorsBytes({Byte("a"), Byte("b")}));
         WriteIndex(folder, R"({"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}})");
       },
       "tensor a is in "},
  };
}

TEST(CheckpointFilesTest, RefusesBadFoldersByName) {
  for (const BadFolder& row : BadFolders()) {
    SCOPED_TRACE(row.what);
    const std::string folder = EmptyFolder();
    row.write(folder);
    const auto files = CheckpointFiles::Open(folder);
    ASSERT_FALSE(files.ok());
    EXPECT_THAT(std::string(files.status().message()), HasSubstr(row.message));
    EXPECT_THAT(std::string(files.status().message()), HasSubstr(folder));
  }
}

TEST(CheckpointFilesTest, RefusesAFolderThatIsNotThere) {
  const auto files = CheckpointFiles::Open(EmptyFolder() + "/none");
  EXPECT_EQ(files.status().code(), absl::StatusCode::kNotFound);
}

// FIPS 180-2's examples.
TEST(Sha256Test, AgreesWithTheStandard) {
  Sha256 abc;
  abc.Update("a");
  abc.Update("bc");
  EXPECT_EQ(abc.Finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 empty;
  EXPECT_EQ(empty.Finish(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace deltaserve
