#include "kernels/base/write_address.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(WriteAddressTest, TheFileHasTheLastAddressAndNothingIsLeftBeside) {
  const std::string path = ::testing::TempDir() + "write_address_test";
  EXPECT_TRUE(WriteAddress(path, "a-longer-host:50051").ok());
  EXPECT_TRUE(WriteAddress(path, "h:1").ok());
  EXPECT_EQ(ReadAll(path), "h:1\n");
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  std::filesystem::remove(path);
}

TEST(WriteAddressTest, ADashIsStandardOutput) {
  testing::internal::CaptureStdout();
  EXPECT_TRUE(WriteAddress("-", "h:1").ok());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "h:1\n");
  EXPECT_FALSE(std::filesystem::exists("-"));
}

TEST(WriteAddressTest, WhatCannotBeWrittenIsNamedWithItsReason) {
  const std::string folder = ::testing::TempDir() + "write_address_test_folder";
  std::filesystem::create_directories(folder + "/inner");
  const std::pair<std::string, const char*> rows[] = {
      {folder + "/none/file", "No such file or directory; name a file in a folder that can"},
      {folder, "; name a file in a folder that can"}};  // a folder itself
  for (const auto& [path, said] : rows) {
    const absl::Status status = WriteAddress(path, "h:1");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("--address-file is " + path + ": "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(said));
    EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace deltaserve
