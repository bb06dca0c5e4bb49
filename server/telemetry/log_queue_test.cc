#include "server/telemetry/log_queue.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace causeway {
namespace {

class LogQueueTest : public ::testing::Test {
 protected:
  LogQueueTest() {
    EXPECT_EQ(::pipe2(ends_, O_CLOEXEC), 0);
    ::fcntl(ends_[1], F_SETPIPE_SZ, 4096);
  }
  // Reads until `lines` lines have come.
  std::vector<std::string> Read(size_t lines) {
    std::string text;
    while (static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) < lines) {
      char piece[512];
      const ssize_t got = ::read(ends_[0], piece, sizeof(piece));
      if (got <= 0) break;
      text.append(piece, got);
    }
    std::vector<std::string> read;
    for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1))
      read.push_back(text.substr(0, end));
    return read;
  }
  int ends_[2];
};

TEST_F(LogQueueTest, WritesLinesInOrder) {
  LogQueue* queue = LogQueue::Make(ends_[1], 1 << 20);
  for (int i = 0; i < 2000; ++i) queue->Push(absl::StrCat("line ", i, "\n"));
  const std::vector<std::string> lines = Read(2000);
  ASSERT_EQ(lines.size(), 2000u);
  for (int i = 0; i < 2000; ++i) EXPECT_EQ(lines[i], absl::StrCat("line ", i));
  queue->Flush(absl::Seconds(10));
  EXPECT_EQ(queue->dropped(), 0);
}

TEST_F(LogQueueTest, NobodyWaitsForAPipeThatIsNotRead) {
  LogQueue* queue = LogQueue::Make(ends_[1], 10'000);
  const absl::Time start = absl::Now();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([queue] {
      for (int i = 0; i < 5000; ++i) queue->Push("a line of 24 characters\n");
    });
  }
  for (std::thread& thread : threads) thread.join();
  queue->Flush(absl::Milliseconds(50));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  EXPECT_FALSE(queue->half_empty());
  // What waits and what is in the pipe is all that is left of 20,000 lines.
  const int64_t dropped = queue->dropped();
  EXPECT_GE(dropped, 20'000 - (10'000 + 4096) / 24 - 1);
  EXPECT_LT(dropped, 20'000);
  EXPECT_EQ(Read(20'000 - dropped).size(), 20'000u - dropped) << "and it is read late";
  queue->Flush(absl::Seconds(10));
  EXPECT_TRUE(queue->half_empty());
  queue->Push("again\n");
  EXPECT_EQ(Read(1), std::vector<std::string>{"again"});
}

TEST_F(LogQueueTest, LinesThatNobodyCanReadAnyMoreAreDropped) {
  LogQueue* queue = LogQueue::Make(ends_[1], 10'000);
  ::signal(SIGPIPE, SIG_IGN);
  ::close(ends_[0]);
  for (int i = 0; i < 10; ++i) queue->Push("line\n");
  queue->Flush(absl::Seconds(10));
  EXPECT_EQ(queue->dropped(), 10);
}

}  // namespace
}  // namespace causeway
