// How a pipeline of several stages is kept busy.
#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/base/pipeline.h"
#include "engine/schedule/testing.h"

namespace causeway {
namespace {

TEST(Pipeline, DecodesAreSpreadOverTheStages) {
  SchedulerOptions options = Options();
  options.micro_batches = 4, options.steps_in_flight = 5;
  options.max_num_batched_tokens = 64;
  Rig rig(options);
  for (uint64_t id = 1; id <= 8; ++id) rig.Add(Request(id, 4, 50));
  EXPECT_EQ(rig.Step(), "1:4 2:4 3:4 4:4 5:4 6:4 7:4 8:4");
  EXPECT_EQ(rig.Step(), "none") << "all wait for their tokens";
  rig.Apply();
  EXPECT_EQ(rig.Step(), "1:1 2:1");
  EXPECT_EQ(rig.Step(), "3:1 4:1");
  EXPECT_EQ(rig.Step(), "5:1 6:1");
  EXPECT_EQ(rig.Step(), "7:1 8:1");
  EXPECT_EQ(rig.Step(), "none");
  rig.Apply();
  EXPECT_EQ(rig.Step(), "1:1 2:1");
}

TEST(Pipeline, ChunksOfOnePromptFollowEachOtherInFlight) {
  SchedulerOptions options = Options();
  options.micro_batches = 2, options.steps_in_flight = 3;
  Rig rig(options);
  rig.Add(Request(1, 80, 5));
  EXPECT_EQ(rig.Step(), "1:32");
  EXPECT_EQ(rig.Step(), "1:32");
  EXPECT_EQ(rig.Step(), "1:16");
  rig.Apply();
  EXPECT_EQ(rig.Step(), "none");
  rig.Apply();
  EXPECT_EQ(rig.Step(), "none");
  EXPECT_EQ(rig.Apply().size(), 1u);
  EXPECT_EQ(rig.Step(), "1:1");
}

TEST(Pipeline, PromptsThatFitIntoOneStepAreCutIntoSeveral) {
  SchedulerOptions options = Options();
  options.micro_batches = 2, options.steps_in_flight = 3;
  options.max_num_batched_tokens = options.max_model_len = 2048;
  options.num_blocks = 1000;
  {
    Rig rig(options);
    rig.Add(Request(1, 1000, 5));
    for (int chunk = 0; chunk < 3; ++chunk) EXPECT_EQ(rig.Step(), "1:250");
    rig.Apply();
    EXPECT_EQ(rig.Step(), "1:250");
  }
  {
    Rig rig(options);
    for (uint64_t id = 1; id <= 3; ++id) rig.Add(Request(id, 200, 5));
    EXPECT_EQ(rig.Step(), "1:200") << "those that wait count";
    EXPECT_EQ(rig.Step(), "2:200");
    EXPECT_EQ(rig.Step(), "3:200");
  }
  {
    Rig rig(options);
    rig.Add(Request(1, 200, 5));
    rig.Step();
    rig.Apply();
    rig.Add(Request(2, 500, 5));
    EXPECT_EQ(rig.Step(), "1:1 2:250") << "rows of sequences that decode come on top";
  }
  options.micro_batches = 1;
  Rig rig(options);
  rig.Add(Request(1, 1000, 5));
  EXPECT_EQ(rig.Step(), "1:1000") << "one stage gains nothing";
}

TEST(Pipeline, StepsOfPromptsAreAboutEqualAndNoMoreThanTheStagesNeed) {
  for (const int stages : {2, 3, 8}) {
    for (const int64_t rows : {1, 255, 256, 257, 1000, 5000, 100'000}) {
      SCOPED_TRACE(testing::Message() << rows << " rows, " << stages << " stages");
      int64_t steps = 0, left = rows;
      const int64_t first = PromptRows(rows, 4096, stages);
      for (; left > 0; ++steps) {
        const int64_t step = PromptRows(left, 4096, stages);
        EXPECT_LE(step, std::min<int64_t>(first, 4096)) << "the largest step is what stages wait for";
        ASSERT_GT(step, 0);
        left -= step;
      }
      EXPECT_LE(steps, (rows + kPromptRowsMin - 1) / kPromptRowsMin);
      if (rows >= kPromptRowsMin * 4 * stages && rows <= 4096 * 4 * stages) {
        EXPECT_EQ(first, (rows + 4 * stages - 1) / (4 * stages));
      }
    }
  }
}

TEST(Pipeline, EverySequenceGetsTheSamePaceWhateverTheDepth) {
  SchedulerOptions options = Options();
  options.micro_batches = options.steps_in_flight = 2;
  Rig rig(options);
  std::vector<int64_t> generated(8);
  for (uint64_t id = 1; id <= 7; ++id) rig.Add(Request(id, 2, 100));
  for (int step = 0; step < 60; ++step) {
    while (rig.Step() != "none") {
    }
    for (const SequenceEvent& event : rig.Apply()) generated[event.sequence] += event.token.has_value();
  }
  for (uint64_t id = 2; id <= 7; ++id) EXPECT_NEAR(generated[id], generated[1], 1) << id;
}

}  // namespace
}  // namespace causeway
