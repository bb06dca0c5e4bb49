#include "engine/device/communicator.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <numeric>
#include <thread>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/device/endpoint.h"

namespace causeway {
namespace {

std::vector<std::unique_ptr<Endpoint>> ConnectAll(int size) {
  absl::StatusOr<std::unique_ptr<Rendezvous>> rendezvous =
      MakeRendezvous("127.0.0.1", 0, /*serve=*/true, absl::Seconds(20));
  EXPECT_TRUE(rendezvous.ok()) << rendezvous.status();
  std::vector<int> own(size);
  std::iota(own.begin(), own.end(), 0);
  auto endpoints = (*rendezvous)->Connect("test", own, size, "127.0.0.1");
  EXPECT_TRUE(endpoints.ok()) << endpoints.status();
  return *std::move(endpoints);
}

// Threads that share memory, or that are connected as processes are.
enum class Kind { kHost, kLinks };

class CommunicatorTest : public testing::TestWithParam<Kind> {
 protected:
  // Runs `work` as each rank of a group, on threads of their own.
  static void AsRanks(int size, const std::function<void(Communicator&)>& work) {
    std::vector<std::unique_ptr<Endpoint>> endpoints;
    std::vector<std::unique_ptr<Communicator>> ranks;
    if (GetParam() == Kind::kHost) {
      ranks = MakeHostCommunicators(size);
    } else {
      endpoints = ConnectAll(size);
      std::vector<PeerRank> peers;
      for (int rank = 0; rank < size; ++rank) peers.push_back({rank, absl::StrCat("rank ", rank)});
      for (int rank = 0; rank < size; ++rank) ranks.push_back(MakeLinkCommunicator(*endpoints[rank], peers, rank));
    }
    std::vector<std::thread> threads;
    for (const auto& rank : ranks) threads.emplace_back([&work, &rank] { work(*rank); });
    for (std::thread& thread : threads) thread.join();
  }
};
INSTANTIATE_TEST_SUITE_P(, CommunicatorTest, testing::Values(Kind::kHost, Kind::kLinks),
                         [](const auto& info) { return info.param == Kind::kHost ? "Host" : "Links"; });

TEST_P(CommunicatorTest, EveryRankGetsTheSum) {
  for (const int size : {1, 2, 3, 5}) {
    AsRanks(size, [size](Communicator& ranks) {
      ASSERT_EQ(ranks.size(), size);
      ranks.BeginStep();
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
        for (const int64_t n : {1, 7, 64, 65, 1000, 40097}) {
          at::Tensor x = at::full({n}, ranks.rank() + 1, type);
          ranks.AllReduce(x);
          EXPECT_EQ(x.to(at::kFloat).min().item<float>(), size * (size + 1) / 2.0) << n;
          EXPECT_EQ(x.to(at::kFloat).max().item<float>(), size * (size + 1) / 2.0) << n;
        }
      }
      at::Tensor none = at::zeros({0, 5});
      ranks.AllReduce(none);
      EXPECT_EQ(ranks.stats().calls, 3 * 6 + 1);
      EXPECT_EQ(ranks.stats().bytes, (4 + 2 + 2) * (1 + 7 + 64 + 65 + 1000 + 40097));
      EXPECT_GT(ranks.stats().seconds, 0);
    });
  }
}

// Small numbers before a large one are not lost as they would be one after the other in bf16.
TEST_P(CommunicatorTest, SumsAreInFp32InTheOrderOfRanks) {
  AsRanks(4, [](Communicator& ranks) {
    ranks.BeginStep();
    at::Tensor x = at::full({100}, ranks.rank() == 0 ? 256.0 : 0.75, at::kBFloat16);
    ranks.AllReduce(x);
    EXPECT_EQ(x[99].to(at::kFloat).item<float>(), 258);  // of 258.25; each alone would be rounded back to 256
    at::Tensor wide = at::full({3}, ranks.rank() == 1 ? 1e8 : ranks.rank() == 2 ? -1e8 : 1.0, at::kFloat);
    ranks.AllReduce(wide);
    EXPECT_EQ(wide[0].item<float>(), ((1.0f + 1e8f) + -1e8f) + 1.0f);
  });
}

TEST_P(CommunicatorTest, ColumnsAreGatheredOnTheFirstRank) {
  const std::vector<int64_t> widths = {3, 1, 2};
  AsRanks(3, [&widths](Communicator& ranks) {
    ranks.BeginStep();
    for (const int64_t rows : {4, 1, 0}) {
      const int64_t width = widths[ranks.rank()];
      const at::Tensor x =
          at::arange(rows * width, at::kFloat).view({rows, width}).add(100 * (ranks.rank() + 1)).contiguous();
      const at::Tensor all = ranks.GatherColumns(x, widths);
      ASSERT_EQ(all.defined(), ranks.rank() == 0);
      if (ranks.rank() != 0) continue;
      ASSERT_EQ(all.sizes(), (at::IntArrayRef{rows, 6}));
      for (int64_t row = 0; row < rows; ++row) {
        EXPECT_EQ(all[row][2].item<float>(), 100 + row * 3 + 2);
        EXPECT_EQ(all[row][3].item<float>(), 200 + row);
        EXPECT_EQ(all[row][5].item<float>(), 300 + row * 2 + 1);
      }
    }
  });
}

// Many steps, ranks that are late at random places, and each step one that fails or none.
TEST_P(CommunicatorTest, AFailedRankEndsTheStepForAllAndTheNextOneRuns) {
  constexpr int kSize = 3, kSteps = 300, kSums = 5;
  std::atomic<int> ended = 0, finished = 0;
  AsRanks(kSize, [&](Communicator& ranks) {
    for (int step = 0; step < kSteps; ++step) {
      const int failing = step % 2 == 0 ? step / 2 % kSize : -1, at = step % kSums;
      try {
        ranks.BeginStep();
        for (int i = 0; i < kSums; ++i) {
          if ((step * 7 + i + ranks.rank()) % 11 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
          if (ranks.rank() == failing && i == at) {
            ranks.Fail();
            break;
          }
          at::Tensor x = at::full({200}, static_cast<float>(step + ranks.rank()));
          ranks.AllReduce(x);
          ASSERT_EQ(x[i].item<float>(), 3 * step + 3);
        }
        finished += failing < 0;
      } catch (const OtherRankFailed&) {
        ASSERT_GE(failing, 0);
        ranks.Fail();
        ++ended;
      }
    }
  });
  EXPECT_EQ(ended, kSteps / 2 * (kSize - 1));
  EXPECT_EQ(finished, kSteps / 2 * kSize);
}

TEST_P(CommunicatorTest, AllRanksAreToldWhatTheFirstSays) {
  AsRanks(3, [](Communicator& ranks) {
    for (int step = 0; step < 3; ++step) {
      ranks.BeginStep();
      at::Tensor x = at::full({5}, ranks.rank() == 0 ? 7 + step : -1, at::kLong);
      ranks.Broadcast(x);
      EXPECT_EQ(x[4].item<int64_t>(), 7 + step);
    }
  });
}

// Who waits for a rank that will never come is let go.
TEST(EndpointTest, CloseEndsWhoWaits) {
  std::vector<std::unique_ptr<Endpoint>> endpoints = ConnectAll(2);
  const std::unique_ptr<Communicator> rank = MakeLinkCommunicator(*endpoints[0], {{0, "here"}, {1, "there"}}, 0);
  std::thread closer([&endpoints] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    endpoints[0]->Close();
  });
  rank->BeginStep();
  at::Tensor x = at::zeros({10});
  EXPECT_THROW(rank->AllReduce(x), ConnectionLost);
  closer.join();
  EXPECT_THROW(rank->AllReduce(x), ConnectionLost);
}

TEST(EndpointTest, APeerThatIsGoneIsAnError) {
  std::vector<std::unique_ptr<Endpoint>> endpoints = ConnectAll(2);
  const std::unique_ptr<Communicator> rank = MakeLinkCommunicator(*endpoints[0], {{0, "here"}, {1, "there"}}, 0);
  std::thread goes([&endpoints] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    endpoints[1].reset();
  });
  rank->BeginStep();
  at::Tensor x = at::zeros({10});
  try {
    rank->AllReduce(x);
    ADD_FAILURE() << "nobody was there to add anything";
  } catch (const ConnectionLost& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("the connection to there is lost: "));
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr(".cc")));
  }
  goes.join();
}

TEST(RendezvousTest, SaysWhatCannotBeHad) {
  auto served = MakeRendezvous("127.0.0.1", 0, /*serve=*/true, absl::Seconds(5));
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_THAT(MakeRendezvous("127.0.0.1", (*served)->port(), true, absl::Seconds(5)).status().message(),
              testing::HasSubstr("Address already in use"));
  EXPECT_EQ(MakeRendezvous("nowhere.invalid", 0, true, absl::Seconds(5)).status().code(),
            absl::StatusCode::kInvalidArgument);
  auto joined = MakeRendezvous("127.0.0.1", (*served)->port(), false, absl::Seconds(5));
  ASSERT_TRUE(joined.ok()) << joined.status();
  ASSERT_TRUE((*served)->Set("a", "b").ok());
  EXPECT_EQ((*joined)->Get("a", absl::Seconds(5)).value_or(""), "b");
  EXPECT_EQ((*joined)->Get("c", absl::Milliseconds(100)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace causeway
