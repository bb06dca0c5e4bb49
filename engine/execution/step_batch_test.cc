#include "engine/execution/step_batch.h"

#include <functional>
#include <string>

#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>

namespace causeway {
namespace {

using ::testing::ElementsAre;

constexpr BatchLimits kLimits{.vocab = 100, .slots = 4, .blocks = 10, .positions = 64};

std::vector<int64_t> Values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kLong).flatten().contiguous();
  return std::vector<int64_t>(flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel());
}

StepPlan MixedPlan() {
  StepPlan plan;
  // A prompt chunk that crosses a block's end, and makes no token.
  plan.sequences.push_back({.sequence = 7, .slot = 0, .tokens = {11, 12, 13}, .context = 15, .block_table = {4, 2}});
  // A decoding row whose token is still being sampled.
  plan.sequences.push_back({.sequence = 8,
                            .slot = 3,
                            .tokens = {kPlaceholderToken},
                            .context = 32,
                            .block_table = {9, 1, 5},
                            .sample = true});
  // All logits of a chunk that also samples.
  plan.sequences.push_back({.sequence = 9,
                            .slot = 1,
                            .tokens = {21, 22},
                            .context = 0,
                            .block_table = {7},
                            .sample = true,
                            .all_logits = true});
  return plan;
}

TEST(StepBatchTest, SequencesBecomeOneRaggedBatch) {
  absl::StatusOr<StepBatch> batch = MakeStepBatch(MixedPlan(), kLimits);
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->tokens, 6);
  EXPECT_THAT(Values(batch->ids), ElementsAre(11, 12, 13, 0, 21, 22));
  EXPECT_THAT(Values(batch->attention.positions), ElementsAre(15, 16, 17, 32, 0, 1));
  EXPECT_THAT(Values(batch->attention.slots), ElementsAre(4 * 16 + 15, 2 * 16, 2 * 16 + 1, 5 * 16, 7 * 16, 7 * 16 + 1));
  EXPECT_THAT(Values(batch->attention.block_tables), ElementsAre(4, 2, 0, 9, 1, 5, 7, 0, 0));
  EXPECT_THAT(Values(batch->attention.query_start), ElementsAre(0, 3, 4, 6));
  EXPECT_THAT(Values(batch->attention.context_lens), ElementsAre(18, 33, 2));
  EXPECT_THAT(batch->attention.query_start_host, ElementsAre(0, 3, 4, 6));
  EXPECT_THAT(batch->attention.context_lens_host, ElementsAre(18, 33, 2));
  EXPECT_EQ(batch->attention.context_max, 33);
  EXPECT_THAT(Values(batch->rows), ElementsAre(3, 4, 5));
  EXPECT_EQ(batch->selected_rows, 3);
  EXPECT_EQ(batch->selected[0].count, 0);
  EXPECT_EQ(batch->selected[1].first, 0);
  EXPECT_EQ(batch->selected[2].first, 1);
  EXPECT_EQ(batch->selected[2].count, 2);
}

TEST(StepBatchTest, PlaceholdersTakeTheirSlotsLastToken) {
  absl::StatusOr<StepBatch> batch = MakeStepBatch(MixedPlan(), kLimits);
  ASSERT_TRUE(batch.ok());
  EXPECT_THAT(Values(batch->FilledIds({60, 61, 62, 63})), ElementsAre(11, 12, 13, 63, 21, 22));
}

TEST(StepBatchTest, ARankLooksUpItsOwnWords) {
  const at::Tensor ids = at::tensor(std::vector<int64_t>{11, 4, 19, 20, 10});
  const LocalIds local = IdsWithin(ids, {.first = 10, .count = 10});
  EXPECT_THAT(Values(local.ids), ElementsAre(1, 0, 9, 0, 0));
  EXPECT_THAT(Values(local.foreign), ElementsAre(1, 3));
  EXPECT_FALSE(IdsWithin(ids, {.first = 0, .count = 32}).foreign.defined());
}

TEST(StepBatchTest, RowsThatAllSampleNeedNoSelection) {
  StepPlan plan = MixedPlan();
  plan.sequences.erase(plan.sequences.begin());
  absl::StatusOr<StepBatch> batch = MakeStepBatch(plan, kLimits);
  ASSERT_TRUE(batch.ok());
  EXPECT_FALSE(batch->rows.defined());
}

TEST(StepBatchTest, PlansThatReachOutsideAreErrorsThatNameTheSequence) {
  const auto message = [](const std::function<void(StepSequence&)>& spoil) {
    StepPlan plan = MixedPlan();
    spoil(plan.sequences[0]);
    const absl::Status status = MakeStepBatch(plan, kLimits).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    return std::string(status.message());
  };
  EXPECT_EQ(message([](StepSequence& s) { s.tokens[1] = 100; }),
            "step plan, sequence 7: token 100 of a vocabulary of 100");
  EXPECT_EQ(message([](StepSequence& s) { s.tokens[1] = kPlaceholderToken; }),
            "step plan, sequence 7: token -1 of a vocabulary of 100");
  EXPECT_EQ(message([](StepSequence& s) { s.tokens.clear(); }), "step plan, sequence 7: no tokens");
  EXPECT_EQ(message([](StepSequence& s) { s.slot = 4; }), "step plan, sequence 7: slot 4 of 4");
  EXPECT_EQ(message([](StepSequence& s) { s.block_table[1] = 10; }), "step plan, sequence 7: block 10 of 10");
  EXPECT_EQ(message([](StepSequence& s) { s.block_table.pop_back(); }),
            "step plan, sequence 7: 1 blocks for 18 tokens");
  EXPECT_EQ(message([](StepSequence& s) { s.context = 62; }),
            "step plan, sequence 7: positions up to 65, the longest is 64");
}

}  // namespace
}  // namespace causeway
