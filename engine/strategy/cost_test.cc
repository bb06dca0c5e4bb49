#include "engine/strategy/cost.h"

#include <cmath>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/architecture/shard.h"
#include "engine/plan/test_models.h"
#include "engine/strategy/cut.h"

namespace causeway {
namespace {

// Layers of 4 heads of 8 and 2 key/value heads, hidden 32, MLP 64, bf16: linears of 32 x (32 + 16 + 16), 32 x 32, 32 x
// 128 and 64 x 32.
constexpr double kLayerWeights = 32 * 64 + 32 * 32 + 32 * 128 + 64 * 32;  // 9,216
constexpr double kNormBytes = 2 * 32 * 2;

TEST(ModelWorkTest, CountsALayerByHand) {
  const ModelWork work = MakeModelWork(TestLlama({.layers = 2}), TestOptions("auto"));
  ASSERT_EQ(work.units.size(), 5u);
  EXPECT_EQ(work.format, "bf16");
  EXPECT_EQ(work.head_format, "bf16");
  EXPECT_EQ(work.hidden_row_bytes, 64);
  const UnitWork& layer = work.units[1];
  EXPECT_EQ(layer.bytes, 2 * kLayerWeights + kNormBytes);
  EXPECT_EQ(layer.read_bytes, layer.bytes);
  EXPECT_EQ(layer.row_flops, 2 * kLayerWeights);
  EXPECT_EQ(layer.key_flops, 4 * 32);
  EXPECT_EQ(layer.kv_bytes, 2 * 16 * 2);
  EXPECT_EQ(layer.collectives, 2);
  EXPECT_EQ(layer.row_bytes, 2 * 8 * 32 + 2 * (2 * 64 + 3 * 64));
  EXPECT_EQ(work.units[0].bytes, 96 * 32 * 2);
  EXPECT_EQ(work.units[0].read_bytes, 0);  // rows of a table
  EXPECT_EQ(work.units[4].read_bytes, 96 * 32 * 2);
  EXPECT_EQ(work.units[4].row_flops, 2 * 96 * 32);
  EXPECT_EQ(work.units[4].copy_bytes, 0);
  const ModelWork tied = MakeModelWork(TestLlama({.layers = 2, .tied = true}), TestOptions("auto"));
  EXPECT_EQ(tied.units[4].copy_bytes, 96 * 32 * 2);
  EXPECT_EQ(tied.units[4].bytes, 0);  // counted with the embeddings
  EXPECT_EQ(tied.units[4].read_bytes, 96 * 32 * 2);
}

TEST(ModelWorkTest, ARankHasItsShareOfWhatIsCut) {
  const ModelWork work =
      MakeModelWork(*Shard(TestLlama({.layers = 2, .tied = true}), {.rank = 0, .size = 2}), TestOptions("auto"));
  const UnitWork& layer = work.units[1];
  EXPECT_EQ(layer.bytes, kLayerWeights + kNormBytes);
  EXPECT_EQ(layer.read_bytes, layer.bytes);
  EXPECT_EQ(layer.row_flops, kLayerWeights);
  EXPECT_EQ(layer.key_flops, 4 * 16);
  EXPECT_EQ(layer.kv_bytes, 2 * 8 * 2);
  EXPECT_EQ(layer.row_bytes, 2 * 8 * 32 + 2 * (2 * 32 + 3 * 32));
  EXPECT_EQ(work.units[0].bytes, 96 * 32);
  EXPECT_EQ(work.units[4].copy_bytes, 96 * 32);
  EXPECT_EQ(work.units[4].row_flops, 96 * 32);
}

TEST(CostTest, ALayerOfADecodingStepByHand) {
  const ModelSpec spec = TestLlama({.layers = 2});
  const ModelWork work = MakeModelWork(spec, TestOptions("auto"));
  const StepRows step{.rows = 3, .sampled = 3, .sequences = 3, .keys = 100, .context = 100};
  Rank rank{.linears = {.bytes_per_second = 1e3, .flops = 1e4},
            .attention = {.bytes_per_second = 2e3, .flops = 1e5},
            .head = {.bytes_per_second = 5e2, .flops = 1e4},
            .row_bytes_per_second = 2 * 576,
            .layer_seconds = 0.5,
            .sample_seconds = 0.1};
  const double linears = std::max((2 * kLayerWeights + kNormBytes) / 1e3, 2 * kLayerWeights * 3 / 1e4);
  const double attention = std::max(64.0 * 3 * 100 / 2e3, 128.0 * 3 * 100 / 1e5);
  EXPECT_DOUBLE_EQ(UnitSeconds(work, work.units[1], step, rank),
                   linears + attention + 3 + 0.5);  // a second for the rest of each row

  // Over two ranks: half of it, and two all-reduces over three rows of 64 bytes.
  rank.tp = 2;
  rank.link = {.bytes_per_second = 100, .hop_seconds = 0.25};
  const double halves = (kLayerWeights + kNormBytes) / 1e3, attention_halves = 64.0 * 3 * 100 / 2 / 2e3;
  const ModelWork half = MakeModelWork(*Shard(spec, {.rank = 0, .size = 2}), TestOptions("auto"));
  EXPECT_DOUBLE_EQ(UnitSeconds(half, half.units[1], step, rank), halves + attention_halves + 3 * (512 + 320) / 1152.0 +
                                                                     0.5 + 2 * AllReduceSeconds(2, 3 * 64, rank.link));
  // The head computes rows that are sampled alone.
  rank.tp = 1;
  EXPECT_DOUBLE_EQ(UnitSeconds(work, work.units[4], {.rows = 100, .sampled = 2}, rank),
                   std::max(96 * 32 * 2 / 5e2, 2 * 96 * 32 * 2 / 1e4) + 2 * 0.1);
  EXPECT_DOUBLE_EQ(UnitSeconds(work, work.units[0], step, rank), 0);
}

TEST(CostTest, CollectivesAndTransfers) {
  const double start = CatalogueLatencies().start_seconds;
  const Link link{.bytes_per_second = 1000, .hop_seconds = 1};
  EXPECT_DOUBLE_EQ(AllReduceSeconds(1, 1e9, link), 0);
  EXPECT_DOUBLE_EQ(AllReduceSeconds(2, 500, link), start + 2 + 0.5);         // 2 hops; 2 * 1/2 of the bytes
  EXPECT_DOUBLE_EQ(AllReduceSeconds(8, 4000, link), start + 14 + 1.75 * 4);  // 14 hops; 2 * 7/8 of the bytes
  EXPECT_DOUBLE_EQ(TransferSeconds(500, link), start + 1 + 0.5);
}

TEST(CostTest, PipelinesByHand) {
  // The bubble of equal stages: (S - 1) of S - 1 + m turns to fill and drain.
  const StageSeconds equal{.stages = std::vector<double>(4, 2.0)};
  EXPECT_DOUBLE_EQ(FillAndDrainSeconds(equal, 6), 2 * (4 - 1 + 6));
  EXPECT_DOUBLE_EQ(FillAndDrainSeconds(equal, 1), 8);
  // Steps that follow one another wait only while there are fewer parts than stages.
  EXPECT_DOUBLE_EQ(RoundSeconds(equal, 1), 8);
  EXPECT_DOUBLE_EQ(BubbleShare(equal, 1), 3.0 / 4);
  EXPECT_DOUBLE_EQ(RoundSeconds(equal, 4), 8);
  EXPECT_DOUBLE_EQ(BubbleShare(equal, 4), 0);
  EXPECT_DOUBLE_EQ(RoundSeconds(equal, 6), 12);
  // The slowest stage sets the pace.
  EXPECT_DOUBLE_EQ(RoundSeconds({.stages = {1, 3, 2}}, 3), 9);
  EXPECT_DOUBLE_EQ(BubbleShare({.stages = {1, 3, 2}}, 3), 1 - 2.0 / 3);
}

TEST(CostTest, HandingOnDelaysAStepAndTakesNobodysTimeUnlessStagesTakeTurns) {
  StageSeconds handed{.stages = {2, 2}, .hand_over = 0.5};
  EXPECT_DOUBLE_EQ(RoundSeconds(handed, 1), 5);
  EXPECT_DOUBLE_EQ(RoundSeconds(handed, 2), 5);
  EXPECT_DOUBLE_EQ(RoundSeconds(handed, 4), 8);  // both always have one to do
  EXPECT_DOUBLE_EQ(RoundSeconds({.stages = {2}, .hand_over = 0.5}, 1), 2);
  // Four stages on two threads: one step goes through by itself as fast as ever, four take all of both.
  StageSeconds turns{.stages = std::vector<double>(4, 2.0), .turns = 0.5};
  EXPECT_DOUBLE_EQ(RoundSeconds(turns, 1), 8);
  EXPECT_DOUBLE_EQ(RoundSeconds(turns, 4), 4 * 8 / 2.0);
  turns.hand_over = 0.5;
  EXPECT_DOUBLE_EQ(RoundSeconds(turns, 4), 4 * 10 / 2.0);
  EXPECT_DOUBLE_EQ(FillAndDrainSeconds(turns, 3), 10 + 2 * 5);
}

TEST(CostTest, ExpertsThatABatchTouches) {
  EXPECT_DOUBLE_EQ(ExpectedExperts(0, 0, 4), 0);
  EXPECT_DOUBLE_EQ(ExpectedExperts(64, 8, 1), 8);
  EXPECT_NEAR(ExpectedExperts(64, 8, 2), 8 + 8 * 56.0 / 64, 1e-9);
  EXPECT_NEAR(ExpectedExperts(256, 8, 1e6), 256, 1e-6);
  // Against draws.
  std::mt19937 random(1);
  double sum = 0;
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    std::set<int> touched;
    for (int row = 0; row < 10; ++row) {
      std::set<int> chosen;
      while (chosen.size() < 4) chosen.insert(static_cast<int>(random() % 32));
      touched.insert(chosen.begin(), chosen.end());
    }
    sum += static_cast<double>(touched.size());
  }
  EXPECT_NEAR(ExpectedExperts(32, 4, 10), sum / kRounds, 0.15);
}

// All cuts, tried.
double Enumerated(int units, int stages, const StageLoad& load, int stage = 0, int first = 0) {
  if (stage + 1 == stages) return first < units ? load(stage, first, units - 1) : kImpossible;
  double best = kImpossible;
  for (int last = first; last < units; ++last)
    best = std::min(best, std::max(load(stage, first, last), Enumerated(units, stages, load, stage + 1, last + 1)));
  return best;
}

TEST(CutTest, IsTheBestOfAllCuts) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    const int units = 1 + static_cast<int>(random() % 8), stages = 1 + static_cast<int>(random() % units);
    std::vector<double> loads(units), speeds(stages);
    for (double& load : loads) load = static_cast<double>(random() % 20);
    for (double& speed : speeds) speed = 1 + static_cast<double>(random() % 4);
    const double most = static_cast<double>(random() % 60);
    const StageLoad load = [&](int s, int first, int last) {
      double sum = 0;
      for (int i = first; i <= last; ++i) sum += loads[i];
      return sum > most ? kImpossible : sum / speeds[s];
    };
    const std::vector<int> firsts = BestCut(units, stages, load);
    const double expected = Enumerated(units, stages, load);
    ASSERT_EQ(firsts.empty(), expected == kImpossible);
    if (firsts.empty()) continue;
    ASSERT_EQ(firsts[0], 0);
    double worst = 0;
    for (int s = 0; s < stages; ++s) {
      const int end = s + 1 < stages ? firsts[s + 1] : units;
      ASSERT_LT(firsts[s], end);
      worst = std::max(worst, load(s, firsts[s], end - 1));
    }
    EXPECT_DOUBLE_EQ(worst, expected);
  }
}

}  // namespace
}  // namespace causeway
