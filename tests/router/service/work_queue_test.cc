#include "router/service/work_queue.h"

#include <atomic>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

TEST(WorkQueueTest, RefusesWhatItHasNoRoomFor) {
  absl::Notification begun;
  absl::Notification go_on;
  std::atomic<int> done{0};
  {
    WorkQueue queue(1, 2);
    ASSERT_TRUE(queue.Post([&] {
      begun.Notify();
      go_on.WaitForNotification();
      ++done;
    }));
    begun.WaitForNotification();  // it runs now, so it does not wait
    EXPECT_TRUE(queue.Post([&] { ++done; }));
    EXPECT_TRUE(queue.Post([&] { ++done; }));
    EXPECT_FALSE(queue.Post([&] { done += 100; }));
    go_on.Notify();
  }
  EXPECT_EQ(done, 3);  // what waited was run before the queue ended
}

}  // namespace
}  // namespace deltaserve
