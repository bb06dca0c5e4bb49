#include "engine/base/bounded_queue.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(BoundedQueueTest, NeverHoldsMoreThanItsCapacity) {
  constexpr int kCapacity = 2, kItems = 5000;
  BoundedQueue<int> queue(kCapacity);
  std::atomic<int> pushed = 0;
  std::thread producer([&] {
    for (int i = 0; i < kItems; ++i) {
      ASSERT_TRUE(queue.Push(int{i}));
      ++pushed;
    }
  });
  for (int i = 0; i < kItems; ++i) {
    EXPECT_LE(pushed, i + kCapacity);
    EXPECT_EQ(queue.Pop(), i);
  }
  producer.join();
}

TEST(BoundedQueueTest, CloseRefusesAndLetsWhatIsInsideOut) {
  BoundedQueue<std::unique_ptr<int>> queue(2);
  ASSERT_TRUE(queue.Push(std::make_unique<int>(7)));
  queue.Close();
  auto refused = std::make_unique<int>(8);
  EXPECT_FALSE(queue.Push(std::move(refused)));
  ASSERT_NE(refused, nullptr);  // the item is left untouched
  EXPECT_EQ(**queue.Pop(), 7);
  EXPECT_EQ(queue.Pop(), std::nullopt);
}

TEST(BoundedQueueTest, CloseWakesWhoWaits) {
  for (int round = 0; round < 200; ++round) {
    BoundedQueue<int> full(1), empty(1);
    ASSERT_TRUE(full.Push(1));
    std::atomic<int> at_work = 0;
    std::thread producer([&] {
      ++at_work;
      EXPECT_FALSE(full.Push(2));
    });
    std::thread consumer([&] {
      ++at_work;
      EXPECT_EQ(empty.Pop(), std::nullopt);
    });
    while (at_work < 2) std::this_thread::yield();
    full.Close();
    empty.Close();
    producer.join();
    consumer.join();
  }
}

TEST(BoundedQueueTest, EveryItemComesOutOnce) {
  constexpr int kThreads = 4, kItems = 2000;
  BoundedQueue<int> queue(8);
  std::vector<std::vector<int>> got(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&queue, t] {
      for (int i = 0; i < kItems; ++i) ASSERT_TRUE(queue.Push(t * kItems + i));
    });
  }
  std::vector<std::thread> consumers;
  for (int t = 0; t < kThreads; ++t) {
    consumers.emplace_back([&queue, &got, t] {
      while (auto item = queue.Pop()) got[t].push_back(*item);
    });
  }
  for (auto& thread : threads) thread.join();
  queue.Close();
  for (auto& thread : consumers) thread.join();
  std::vector<bool> seen(kThreads * kItems);
  for (const auto& items : got) {
    for (int item : items) {
      EXPECT_FALSE(seen[item]);
      seen[item] = true;
    }
  }
  for (bool s : seen) EXPECT_TRUE(s);
}

}  // namespace
}  // namespace causeway
