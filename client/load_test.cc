#include "client/load.h"

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace causeway {
namespace {

TEST(LoadTest, SendsEachRequestOnceWithoutAThreadForEach) {
  for (const bool at_once : {false, true}) {
    absl::Mutex mutex;
    std::multiset<int> sent;
    std::set<std::thread::id> threads;
    const auto send = [&](int i) {
      absl::MutexLock lock(&mutex);
      sent.insert(i);
      threads.insert(std::this_thread::get_id());
    };
    std::vector<double> arrivals(2000);
    for (size_t i = 0; i < arrivals.size(); ++i) arrivals[i] = 2e-4 * i;
    ASSERT_TRUE((at_once ? SendAtOnce(2000, 3, send) : SendAtArrivals(arrivals, 2000, send)).ok());
    EXPECT_EQ(sent.size(), 2000u);
    EXPECT_EQ(std::set<int>(sent.begin(), sent.end()).size(), 2000u);
    EXPECT_LE(threads.size(), at_once ? 3u : 1999u);
  }
}

TEST(LoadTest, ASlowAnswerDelaysNoArrival) {
  absl::Notification last;
  std::atomic<int> in_time = 0;
  const auto send = [&](int i) {
    if (i == 3) last.Notify();
    in_time += last.WaitForNotificationWithTimeout(absl::Seconds(60));
  };
  ASSERT_TRUE(SendAtArrivals({0, 0, 0, 0}, 4, send).ok());
  EXPECT_EQ(in_time, 4);
}

TEST(LoadTest, MoreThanThreadsMaxUnderWayIsAnError) {
  absl::Notification never;
  std::atomic<int> sent = 0;
  const absl::Status status = SendAtArrivals({0, 0, 0, 0}, 2, [&](int) {
    ++sent;
    never.WaitForNotificationWithTimeout(absl::Milliseconds(300));
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("2 requests are under way when request 3 of 4 arrived"));
  EXPECT_LE(sent, 2);
}

}  // namespace
}  // namespace causeway
