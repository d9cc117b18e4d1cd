#include "kernels/base/thread_pool.h"

#include <time.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <set>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

using Part = std::tuple<int64_t, int64_t, int>;  // begin, end, thread

std::set<Part> Split(ThreadPool& pool, int64_t n, int64_t grain) {
  std::mutex mutex;
  std::set<Part> parts;
  pool.ParallelFor(n, grain, [&](int64_t begin, int64_t end, int thread) {
    const std::lock_guard<std::mutex> lock(mutex);
    EXPECT_TRUE(parts.emplace(begin, end, thread).second);
  });
  return parts;
}

TEST(ThreadPoolTest, RunsEachIndexOnceForEveryShape) {
  for (const int threads : {1, 2, 3, 4, 7}) {
    ThreadPool pool(threads);
    for (const int64_t n : {0, 1, 2, 3, 6, 7, 8, 63, 64, 65, 1000}) {
      for (const int64_t grain : {1, 2, 5, 64, 2000}) {
        std::vector<int> runs(static_cast<size_t>(n), 0);
        pool.ParallelFor(n, grain, [&](int64_t begin, int64_t end, int thread) {
          EXPECT_LT(thread, threads);
          for (int64_t i = begin; i < end; ++i) {
            ++runs[static_cast<size_t>(i)];
          }
        });
        EXPECT_THAT(runs, testing::Each(1))
            << threads << " threads, n " << n << ", grain " << grain;
      }
    }
  }
}

TEST(ThreadPoolTest, CutsAtMultiplesOfTheGrainIntoNearlyEqualParts) {
  ThreadPool pool(3);
  EXPECT_THAT(Split(pool, 100, 16),  // seven grains: 2, 2 and 3
              testing::ElementsAre(Part(0, 32, 0), Part(32, 64, 1), Part(64, 100, 2)));
}

TEST(ThreadPoolTest, UsesNoMoreThreadsThanGrains) {
  ThreadPool pool(4);
  EXPECT_THAT(Split(pool, 20, 10), testing::ElementsAre(Part(0, 10, 0), Part(10, 20, 1)));
  EXPECT_THAT(Split(pool, 9, 10), testing::ElementsAre(Part(0, 9, 0)));
}

TEST(ThreadPoolTest, SplitsTheSameWayEachTime) {
  ThreadPool pool(4);
  const std::set<Part> first = Split(pool, 1001, 8);
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(Split(pool, 1001, 8), first);
  }
}

TEST(ThreadPoolTest, MakesPlainWritesOfABodyVisibleToCallerAndToTheNextBody) {
  ThreadPool pool(4);
  std::vector<int64_t> values(64, 0);
  for (int64_t round = 1; round <= 5000; ++round) {
    // Each round reads what another thread wrote in the one before.
    const std::vector<int64_t> before = values;
    pool.ParallelFor(64, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        values[static_cast<size_t>(i)] = before[static_cast<size_t>(63 - i)] + 1;
      }
    });
    ASSERT_THAT(values, testing::Each(round));
  }
}

TEST(ThreadPoolTest, RunsPartsAtTheSameTime) {
  ThreadPool pool(3);
  std::atomic<int> arrived{0};
  pool.ParallelFor(3, [&](int64_t, int64_t, int) {
    arrived.fetch_add(1);
    while (arrived.load() < 3) {  // ends only if all three run at once
      std::this_thread::yield();
    }
  });
  EXPECT_EQ(arrived.load(), 3);
}

double CpuSeconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Keeps the calling thread, and no other, at work for so long.
void Work(double seconds) {
  const double end = CpuSeconds(CLOCK_THREAD_CPUTIME_ID) + seconds;
  while (CpuSeconds(CLOCK_THREAD_CPUTIME_ID) < end) {
  }
}

TEST(ThreadPoolTest, SleepsWhenThereIsNoWork) {
  ThreadPool pool(4);
  pool.ParallelFor(4, [](int64_t, int64_t, int) {});
  const double before = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
  Work(0.1);
  // Three threads that go on spinning would take 0.3 s more, on any number of cores.
  EXPECT_LT(CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - before, 0.15);
}

TEST(ThreadPoolTest, WakesThreadsThatSleep) {
  ThreadPool pool(4);
  for (int i = 0; i < 20; ++i) {
    Work(0.001);  // longer than the spin
    std::atomic<int> runs{0};
    pool.ParallelFor(4, [&](int64_t, int64_t, int) { runs.fetch_add(1); });
    ASSERT_EQ(runs.load(), 4);
  }
}

TEST(ThreadPoolDeathTest, RefusesALoopWithinALoop) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        ThreadPool pool(2);
        pool.ParallelFor(
            2, [&](int64_t, int64_t, int) { pool.ParallelFor(2, [](int64_t, int64_t, int) {}); });
      },
      "a loop within a loop");
}

TEST(ThreadPoolDeathTest, RefusesAGrainOfZero) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(ThreadPool(2).ParallelFor(2, 0, [](int64_t, int64_t, int) {}), "0 vs 1");
}

}  // namespace
}  // namespace deltaserve
