#include "worker/replay/step_recorder.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/system/process.h"
#include "tests/worker/replay/replay_world.h"
#include "tests/worker/replay/stalling_sink.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

TEST(RecordingFileTest, OnlyItsUserMayReadIt) {
  const test::TempDir folder;
  const std::string path = folder / "file";
  const mode_t before = umask(0);
  const auto file = RecordingFile::Create(path);
  umask(before);
  ASSERT_TRUE(file.ok()) << file.status();
  struct stat found = {};
  ASSERT_EQ(stat(path.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
}

TEST(RecordingFileTest, LeavesTheOneBefore) {
  const test::TempDir folder;
  const std::string path = folder / "file";
  for (const char byte : {'1', '2', '3'}) {
    const auto file = RecordingFile::Create(path);
    ASSERT_TRUE(file.ok()) << file.status();
    const auto value = static_cast<uint8_t>(byte);
    EXPECT_TRUE((*file)->Write({&value, 1}).ok());
  }
  EXPECT_EQ(test::ReadFile(path), "3");
  EXPECT_EQ(test::ReadFile(path + ".previous"), "2");
}

TEST(RecordingFileTest, RefusesWhatIsNoPlainFile) {
  const test::TempDir folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string& path : {pipe, folder / "no/such/folder/file"}) {
    const auto file = RecordingFile::Create(path);
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(file.status().message()), HasSubstr("--record-plans is " + path));
    EXPECT_EQ(RecordingFile::Check(path), file.status());
  }
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));  // and was not renamed
}

// Starts that fail later must not push out what a crash left.
TEST(RecordingFileTest, CheckingLeavesTheOneThatIsThere) {
  const test::TempDir folder;
  const std::string path = folder / "file";
  EXPECT_TRUE(RecordingFile::Check(path).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  { const auto file = RecordingFile::Create(path); }
  EXPECT_TRUE(RecordingFile::Check(path).ok());
  EXPECT_FALSE(std::filesystem::exists(path + ".previous"));
}

// Files of this process can be `bytes` long while it lives: as on a full disk.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit now = before_;
    now.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &now);
  }
  ~FileLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_ = {};
};

TEST(StepRecorderTest, AFullDiskEndsTheRecordingAndNotTheWorld) {
  const test::TempDir folder;
  const auto whole = Record(1, folder / "whole", false);
  const std::string path = folder / "cut";
  std::vector<CollectingSink::Received> received;
  {
    const FileLimit limit(3000);
    received = Record(1, path, false);
  }
  ASSERT_EQ(received.size(), whole.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    if (i % 8 == 4) continue;  // cancelled, some time
    EXPECT_EQ(received[i].tokens, whole[i].tokens) << i;
  }
  auto reader = RecordingReader::OpenFile(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const Recorded recorded = ReadAll(**reader);
  EXPECT_GE(recorded.steps.size(), 3u);
  EXPECT_EQ((*reader)->num_cut_bytes(), 0u);  // cut back to whole frames
  EXPECT_TRUE(ReplayIn(1, *OpenBytes(BytesOf(recorded)), true, false).identical());
}

TEST(StepRecorderTest, AStalledDiskEndsTheRecordingAndNotTheWorld) {
  const test::TempDir folder;
  const auto whole = Record(1, folder / "whole", false);
  const auto disk = std::make_shared<Disk>();
  disk->StallAfter(10);
  const auto received = RecordTo(std::make_unique<StallingSink>(disk), 1, false,
                                 {.most_bytes = 3000,
                                  .patience = absl::Milliseconds(200),
                                  .last_patience = absl::Milliseconds(1)});
  ASSERT_EQ(received.size(), whole.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    if (i % 8 == 4) continue;  // cancelled, some time
    EXPECT_EQ(received[i].tokens, whole[i].tokens) << i;
  }
  disk->Go();
  disk->AwaitGone();
  const std::string bytes = disk->bytes();
  const auto reader = OpenBytes(std::vector<uint8_t>(bytes.begin(), bytes.end()));
  EXPECT_GE(ReadAll(*reader).steps.size(), 4u);
  EXPECT_EQ(reader->num_cut_bytes(), 0u);
}

}  // namespace
}  // namespace deltaserve
