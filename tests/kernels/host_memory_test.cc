#include "kernels/cpu/host_memory.h"

#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "gtest/gtest.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

// A machine of 64 GiB whose files the test writes.
class HostMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = ::testing::TempDir() + "/host_memory_" +
            ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    Write("proc/meminfo", "MemTotal:       67108864 kB\nMemFree:  5 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& file, const std::string& text) {
    const std::filesystem::path path = std::filesystem::path(root_) / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  std::string root_;
};

TEST_F(HostMemoryTest, ProcessesShareTheMachine) {
  EXPECT_EQ(MostMemory(1, root_), 64 * kGiB);
  EXPECT_EQ(MostMemory(4, root_), 16 * kGiB);
}

TEST_F(HostMemoryTest, AGroupAndThoseAroundItBoundIt) {
  Write("proc/self/cgroup", "0::/batch/job_7\n");
  Write("sys/fs/cgroup/batch/job_7/memory.max", "max\n");
  EXPECT_EQ(MostMemory(1, root_), 64 * kGiB);
  Write("sys/fs/cgroup/batch/memory.max", std::to_string(32 * kGiB));
  EXPECT_EQ(MostMemory(2, root_), 16 * kGiB);
  Write("sys/fs/cgroup/memory.max", std::to_string(8 * kGiB));
  EXPECT_EQ(MostMemory(2, root_), 4 * kGiB);
}

TEST_F(HostMemoryTest, AGroupOfTheFirstVersionBoundsItToo) {
  Write("proc/self/cgroup", "12:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/a\n");
  Write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", std::to_string(3 * kGiB));
  EXPECT_EQ(MostMemory(1, root_), 3 * kGiB);
}

TEST_F(HostMemoryTest, TheLimitOfTheProcessIsItsOwn) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = static_cast<rlim_t>(40 * kGiB);
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  EXPECT_EQ(MostMemory(1, root_), 40 * kGiB);
  EXPECT_EQ(MostMemory(2, root_), 32 * kGiB);
  setrlimit(RLIMIT_AS, &before);
}

TEST_F(HostMemoryTest, WhereNothingIsKnownEverythingGoes) {
  EXPECT_EQ(MostMemory(1, root_ + "/nowhere"), std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace deltaserve::cpu
