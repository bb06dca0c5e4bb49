#include "server/rpc/prepare_workers.h"

#include <atomic>

#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"

namespace causeway {
namespace {

TEST(PrepareWorkers, DoWhatIsQueuedAndRefuseWhatIsTooMuch) {
  std::atomic<int> done{0};
  absl::Notification go, running[2];
  {
    PrepareWorkers workers(2, "grammars and long texts");
    for (int i = 0; i < 2; ++i) {
      const absl::Status pushed = workers.Push(1, [&, i] { running[i].Notify(), go.WaitForNotification(), ++done; });
      EXPECT_TRUE(pushed.ok()) << pushed;
    }
    for (absl::Notification& one : running) one.WaitForNotification();  // both threads are busy, and nothing waits
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(workers.Push(16 << 20, [&] { ++done; }).ok()) << i;
    const absl::Status full = workers.Push(1, [&] { ++done; });
    EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(full.message(), "the queue of grammars and long texts is full: messages of 64 MiB wait to be prepared");
    go.Notify();
  }
  EXPECT_EQ(done, 6);
}

TEST(PrepareWorkers, TakeSmallMessagesByTheThousandAndOneThatIsLargerThanTheQueue) {
  std::atomic<int> done{0};
  absl::Notification go, running[2];
  {
    PrepareWorkers workers(2, "grammars and long texts");
    for (int i = 0; i < 2; ++i)
      ASSERT_TRUE(workers.Push(1, [&, i] { running[i].Notify(), go.WaitForNotification(); }).ok());
    for (absl::Notification& one : running) one.WaitForNotification();
    int taken = 0;
    while (workers.Push(100, [&] { ++done; }).ok()) ++taken;
    EXPECT_EQ(taken, 1024);
    go.Notify();
    while (done < taken) std::this_thread::yield();
    EXPECT_TRUE(workers.Push(size_t{1} << 30, [&] { ++done; }).ok());
  }
  EXPECT_EQ(done, 1025);
}

}  // namespace
}  // namespace causeway
