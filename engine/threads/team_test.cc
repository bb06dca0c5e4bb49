#include "engine/threads/team.h"

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "engine/threads/for_each.h"
#include "gtest/gtest.h"

namespace causeway {
namespace {

void Sleep(int microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }

// Stops threads for up to 2 ms, at one of `kOneIn` places at random.
constexpr int kOneIn = 40;
void RandomDelay() {
  thread_local std::mt19937 random(std::hash<std::thread::id>()(std::this_thread::get_id()));
  if (random() % kOneIn == 0) Sleep(static_cast<int>(random() % 2000));
}

class TeamTest : public ::testing::Test {
 protected:
  ~TeamTest() override {
    SetTeamDelay(nullptr);
    SetTeam(1);
  }
};

// out[i] = in[i] * 3 + 1, computed into the thread's own memory first.
struct Sums {
  const std::atomic<int64_t>* in;  // a late helper reads what is there for the next region, hence atomic
  int64_t* out;
  std::atomic<int64_t>* writes;  // one for each task
  std::atomic<int64_t>* computed;
};
void AddUp(const void* context, int64_t, RegionTasks& tasks) {
  const Sums sums = *static_cast<const Sums*>(context);
  while (tasks.Next()) {
    const int64_t value = sums.in[tasks.task] * 3 + 1;
    ++*sums.computed;
    if (!tasks.Own()) continue;
    ++sums.writes[tasks.task];
    sums.out[tasks.task] = value;
  }
}

TEST_F(TeamTest, EveryTaskIsWrittenOnceHoweverManyThreadsAndDelays) {
  for (const bool delays : {false, true}) {
    for (const int threads : {1, 2, 3, 8}) {
      SetTeam(threads, TakeOver::kAllowed);
      EXPECT_EQ(TeamThreads(), threads);
      SetTeamDelay(delays ? RandomDelay : nullptr);
      // Late helpers read `in` and count in `computed`: both outlive the team.
      std::vector<std::atomic<int64_t>> in(300);
      std::atomic<int64_t> computed = 0;
      for (int round = 0; round < (delays ? 40 : 2000); ++round) {
        const int64_t count = 1 + round * 7 % 300;
        std::vector<int64_t> out(count, -1);
        std::vector<std::atomic<int64_t>> writes(count);
        for (int64_t i = 0; i < count; ++i) in[i] = i + round;
        const Sums sums{in.data(), out.data(), writes.data(), &computed};
        RunRegion(AddUp, &sums, sizeof(sums), count);
        for (int64_t i = 0; i < count; ++i) {
          ASSERT_EQ(out[i], (i + round) * 3 + 1)
              << "task " << i << " of round " << round << ", " << threads << " threads";
          ASSERT_EQ(writes[i], 1);
        }
      }
      SetTeam(1);
    }
  }
}

// One helper is stopped in the middle of its first task.
std::atomic<bool> stopped = false, released = false;
struct Waiting {
  std::thread::id owner;
  std::atomic<int>* written_by_owner;
};
void StopHelpers(const void* context, int64_t, RegionTasks& tasks) {
  const Waiting waiting = *static_cast<const Waiting*>(context);
  while (tasks.Next()) {
    const bool owner = std::this_thread::get_id() == waiting.owner;
    if (owner) {
      while (!stopped) Sleep(10);  // until the helper is in a task
    } else {
      stopped = true;
      while (!released) Sleep(10);
    }
    if (tasks.Own() && owner) ++*waiting.written_by_owner;
  }
}

TEST_F(TeamTest, TheOwnerTakesOverWhatAStoppedHelperHasBegun) {
  stopped = released = false;
  SetTeam(2, TakeOver::kAllowed);
  std::atomic<int> written_by_owner = 0;
  const Waiting waiting{std::this_thread::get_id(), &written_by_owner};
  RunRegion(StopHelpers, &waiting, sizeof(waiting), 8);  // this would never end if it waited for the helper
  EXPECT_EQ(written_by_owner, 8);

  // While the helper is away, regions go on without it.
  int64_t done = 0;
  for (int i = 0; i < 100; ++i) ForEach(4, [&](int64_t) { ++done; });
  EXPECT_EQ(done, 400);

  // A thread that frees what the helper may read waits for it.
  std::atomic<bool> waited = false;
  std::thread frees([&] {
    WaitForLateHelpers();
    waited = true;
  });
  Sleep(20'000);
  EXPECT_FALSE(waited);
  released = true;
  frees.join();
}

TEST_F(TeamTest, WithoutTakingOverTheOwnerWaits) {
  stopped = released = false;
  SetTeam(2);
  std::atomic<int> written_by_owner = 0;
  const Waiting waiting{std::this_thread::get_id(), &written_by_owner};
  std::thread releases([] {
    while (!stopped) Sleep(10);
    Sleep(20'000);
    released = true;
  });
  RunRegion(StopHelpers, &waiting, sizeof(waiting), 8);
  EXPECT_TRUE(released);
  EXPECT_LT(written_by_owner, 8);
  releases.join();
}

TEST_F(TeamTest, RegionsWithinRegionsAndThreadsWithoutATeamWorkAlone) {
  SetTeam(3);
  std::atomic<int> done = 0;
  ForEach(5, [&](int64_t) { ForEach(7, [&](int64_t) { ++done; }); });
  EXPECT_EQ(done, 35);
  std::thread([&] {
    EXPECT_EQ(TeamThreads(), 1);
    ForEach(3, [&](int64_t) { ++done; });
  }).join();
  EXPECT_EQ(done, 38);
  ForEach(0, [&](int64_t) { ++done; });
  EXPECT_EQ(done, 38);
}

TEST_F(TeamTest, HelpersSleepAndWakeAndTeamsEnd) {
  for (int round = 0; round < 20; ++round) {
    SetTeam(2 + round % 3, TakeOver::kAllowed);
    std::atomic<int64_t> sum = 0;
    ForEach(64, [&](int64_t i) { sum += i; });
    if (round % 4 == 0) Sleep(3000);  // longer than helpers spin
    ForEach(64, [&](int64_t i) { sum += i; });
    EXPECT_EQ(sum, 64 * 63);
  }
}

// Stops threads for up to 0.2 ms, at one of two places: that is about as long as a helper spins before it sleeps.
void ShortDelay() {
  thread_local std::mt19937 random(std::hash<std::thread::id>()(std::this_thread::get_id()));
  if (random() % 2 == 0) Sleep(static_cast<int>(random() % 200));
}

// A helper that falls asleep just as others are woken must be woken by the next bell. Otherwise a team that ends would
// wait for ever.
TEST_F(TeamTest, NoHelperSleepsThroughABell) {
  SetTeamDelay(ShortDelay);
  std::mt19937 random(1);
  for (int round = 0; round < 400; ++round) {
    SetTeam(2 + round % 3);
    for (int region = 0; region < 5; ++region) {
      ForEach(2, [](int64_t) {});
      Sleep(static_cast<int>(random() % 120));
    }
  }
  SetTeam(1);
}

}  // namespace
}  // namespace causeway
