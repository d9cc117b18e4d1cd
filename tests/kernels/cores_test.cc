#include "kernels/cpu/cores.h"

#include <sched.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/thread_pool.h"

namespace deltaserve::cpu {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(CoresTest, ProcessesThatShareCoresSplitThem) {
  const std::vector<int> host = {0, 1, 2, 3, 4, 5, 6, 7};
  const std::vector<std::vector<int>> two = {host, host};
  EXPECT_EQ(PlanThreads(0, two, 0).num_threads, 4);
  EXPECT_THAT(PlanThreads(0, two, 0).cores, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(PlanThreads(0, two, 1).cores, ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(PlanThreads(4, two, 1).cores, ElementsAre(4, 5, 6, 7));
}

TEST(CoresTest, AProcessThatIsBoundTakesWhatItHas) {
  const std::vector<std::vector<int>> bound = {{0, 1}, {2, 3}};
  EXPECT_EQ(PlanThreads(0, bound, 1).num_threads, 2);
  EXPECT_THAT(PlanThreads(0, bound, 1).cores, ElementsAre(2, 3));
}

TEST(CoresTest, ThreadsThatDoNotFillTheCoresAreNotPinned) {
  const std::vector<int> host = {0, 1, 2};
  const std::vector<std::vector<int>> two = {host, host};
  EXPECT_EQ(PlanThreads(0, two, 0).num_threads, 1);
  EXPECT_THAT(PlanThreads(0, two, 0).cores, IsEmpty());
  EXPECT_THAT(PlanThreads(2, {host}, 0).cores, IsEmpty());
  EXPECT_THAT(PlanThreads(5, {host}, 0).cores, IsEmpty());
  EXPECT_EQ(PlanThreads(0, {{0}, {0}, {0}}, 2).num_threads, 1);
  // Cores that another process may use too.
  EXPECT_THAT(PlanThreads(0, {{0, 1}, {1, 2}}, 0).cores, IsEmpty());
}

TEST(CoresTest, AQuotaLeavesFewerThreadsThatAreNotPinned) {
  const std::vector<int> host = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(PlanThreads(0, {host}, 0, 3).num_threads, 3);
  EXPECT_EQ(PlanThreads(0, {host, host}, 1, 4).num_threads, 2);
  EXPECT_THAT(PlanThreads(8, {host}, 0, 3).cores, IsEmpty());
  EXPECT_EQ(PlanThreads(0, {host}, 0, 64).num_threads, 8);
  EXPECT_EQ(PlanThreads(0, {host}, 0, 64).cores.size(), 8U);
}

TEST(CoresTest, ReadsTheLeastQuotaOfItsControlGroups) {
  const std::string root = testing::TempDir() + "/deltaserve_cores_test";
  std::filesystem::remove_all(root);
  const auto write = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root + path).parent_path());
    std::ofstream(root + path) << text;
  };
  EXPECT_EQ(CoreQuota(root), 0);
  write("/proc/self/cgroup", "0::/pod/container\n");
  write("/sys/fs/cgroup/pod/container/cpu.max", "max 100000\n");
  EXPECT_EQ(CoreQuota(root), 0);
  write("/sys/fs/cgroup/pod/cpu.max", "250000 100000\n");
  EXPECT_EQ(CoreQuota(root), 3);
  write("/sys/fs/cgroup/pod/container/cpu.max", "200000 100000\n");
  EXPECT_EQ(CoreQuota(root), 2);
  // In a container its own group may be the top that is to be seen.
  write("/proc/self/cgroup", "0::/\n");
  write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(CoreQuota(root), 1);
  std::filesystem::remove_all(root);
}

TEST(CoresTest, ReadsTheQuotaOfControlGroupsOfTheFirstVersion) {
  const std::string root = testing::TempDir() + "/deltaserve_cores_test_v1";
  std::filesystem::remove_all(root);
  const auto write = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root + path).parent_path());
    std::ofstream(root + path) << text;
  };
  write("/proc/self/cgroup", "12:cpuset:/pod\n4:cpu,cpuacct:/pod/container\n0::/\n");
  const std::string shared = "/sys/fs/cgroup/cpu,cpuacct/pod";
  write(shared + "/container/cpu.cfs_quota_us", "-1\n");
  write(shared + "/container/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CoreQuota(root), 0);
  write(shared + "/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(CoreQuota(root), 0);  // of no period
  write(shared + "/cpu.cfs_period_us", "50000\n");
  EXPECT_EQ(CoreQuota(root), 5);
  // Mounted under one of its names alone.
  write("/sys/fs/cgroup/cpu/pod/container/cpu.cfs_quota_us", "150000\n");
  write("/sys/fs/cgroup/cpu/pod/container/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CoreQuota(root), 2);
  std::filesystem::remove_all(root);
}

// A machine whose kernel counts 5000 cores and takes no smaller set.
TEST(CoresTest, FindsCoresBeyondTheSetOfTheLibrary) {
  const Affinity large = [](pid_t, size_t bytes, cpu_set_t* set) {
    if (bytes < CPU_ALLOC_SIZE(5000)) return -1;
    CPU_ZERO_S(bytes, set);
    for (const size_t core : {size_t{3}, size_t{1024}, size_t{4999}}) CPU_SET_S(core, bytes, set);
    return 0;
  };
  EXPECT_THAT(UsableCores(large), ElementsAre(3, 1024, 4999));
  // Where it says nothing, what the library counts.
  EXPECT_EQ(UsableCores([](pid_t, size_t, cpu_set_t*) { return -1; }).size(),
            std::thread::hardware_concurrency());
}

TEST(CoresTest, ListsCoresAsLinuxDoes) {
  EXPECT_EQ(CoreList({}), "");
  EXPECT_EQ(CoreList({3}), "3");
  EXPECT_EQ(CoreList({0, 1, 2, 8, 10, 11}), "0-2,8,10-11");
}

TEST(CoresTest, StartedThreadsOfAPoolStayOnTheirCores) {
  const std::vector<int> usable = UsableCores();
  ASSERT_FALSE(usable.empty());
  const int core = usable.back();
  ThreadPool pool(2, {usable.front(), core});
  std::vector<int> of_thread(2, -1);
  pool.ParallelFor(2, 1, [&](int64_t, int64_t, int thread) {
    if (thread == 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    EXPECT_EQ(CPU_COUNT(&set), 1);
    EXPECT_TRUE(CPU_ISSET(static_cast<size_t>(core), &set));
    of_thread[1] = core;
  });
  EXPECT_EQ(of_thread[1], core);
  // The caller's threads inherit its affinity: it is left alone.
  EXPECT_EQ(UsableCores(), usable);
}

}  // namespace
}  // namespace deltaserve::cpu
