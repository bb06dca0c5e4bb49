// Compares the engine with transformers, to the token: every fixture alone, batched, chunked, prefix-cached, preempted,
// and split.
#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/golden/golden_test.h"

namespace causeway {
namespace {

class ParityTest : public GoldenTest {
 protected:
  void SetUp() override { Load("models"); }
};

TEST_P(ParityTest, LogitsOfThePromptAreWithinOneTenThousandth) {
  for (const bool reference : {false, true}) {
    options_.executor.reference_ops = reference;
    absl::StatusOr<PlacedModel> placed = PlaceModel(options_);
    ASSERT_TRUE(placed.ok()) << placed.status();
    auto executor = MakeExecutor(placed->spec, *placed->checkpoint, placed->plan, options_.executor, nullptr);
    ASSERT_TRUE(executor.ok()) << executor.status();
    for (size_t i = 0; i < golden_.cases.size(); ++i) {
      const GoldenCase& golden = golden_.cases[i];
      StepPlan plan;
      plan.step = i + 1;
      plan.tokens = plan.prefill_tokens = golden.prompt.size();
      auto start = std::make_shared<SequenceStart>();
      start->tokens = golden.prompt;
      start->prompt_tokens = golden.prompt.size();
      StepSequence sequence;
      sequence.sequence = i + 1;
      sequence.tokens = golden.prompt;
      for (size_t b = 0; b * 16 < golden.prompt.size(); ++b) sequence.block_table.push_back(b + 3);
      sequence.all_logits = true;
      sequence.start = start;
      plan.sequences.push_back(sequence);
      (*executor)->Run(plan);
      const StepResult result = (*executor)->Wait();
      ASSERT_TRUE(result.status.ok()) << result.status;
      ASSERT_EQ(result.logits.size(), 1u);
      ASSERT_EQ(result.logits[0].size(), golden.logits.size());
      double worst = 0;
      for (size_t j = 0; j < golden.logits.size(); ++j) {
        worst = std::max(worst, static_cast<double>(std::abs(result.logits[0][j] - golden.logits[j])));
      }
      EXPECT_LE(worst, 1e-4) << "prompt " << i << (reference ? ", reference" : ", fused");
    }
  }
}

TEST_P(ParityTest, AloneAndBatched) {
  options_.prefix_cache = false;
  auto engine = MakeTestEngine(options_);
  for (GenerationRequest& request : Requests()) {
    const size_t i = request.request_id[0] - '0';
    const auto sinks = GenerateAll(*engine, {request});
    EXPECT_EQ(sinks[0]->choices[0].tokens, golden_.cases[i].tokens) << "prompt " << i;
  }
  ExpectGolden(GenerateAll(*engine, Requests("batched")));
}

TEST_P(ParityTest, Chunked) {
  options_.plan.max_num_batched_tokens = 11;
  auto engine = MakeTestEngine(options_);
  ExpectGolden(GenerateAll(*engine, Requests()));
}

TEST_P(ParityTest, PrefixCached) {
  auto engine = MakeTestEngine(options_);
  ExpectGolden(GenerateAll(*engine, Requests("first")));
  const auto again = GenerateAll(*engine, Requests("second"));
  ExpectGolden(again);
  // All full blocks come from the cache: four of a prompt of 70 tokens, three of one of 60 (ropes that change by
  // length).
  EXPECT_EQ(again[3]->end.cached_tokens, golden_.cases[3].prompt.size() == 70 ? 64 : 48);
  EXPECT_GT(engine->Stats().scheduler.prefix_hit_tokens, 0);
}

TEST_P(ParityTest, Preempted) {
  // Four sequences of up to 134 tokens have room for one and a half of them.
  options_.plan.kv_cache_tokens = 208;
  auto engine = MakeTestEngine(options_);
  ExpectGolden(GenerateAll(*engine, Requests()));
  EXPECT_GT(engine->Stats().scheduler.preemptions, 0);
}

TEST_P(ParityTest, SplitOverDevices) {
  for (const int devices : {1, 2, 4}) {
    for (const std::string map : {"auto", "balanced", "sequential"}) {
      SCOPED_TRACE(absl::StrCat(devices, " devices, ", map));
      options_.plan.device_map = map;
      options_.devices = absl::StrCat("simulated:", devices, "x64MiB");
      // transformers' maps fill devices. They have to use several only when these are about as small as possible.
      for (int64_t small = 0, enough = 65536; map != "auto" && enough - small > 16;) {
        const int64_t kib = (small + enough) / 2;
        EngineOptions tried = options_;
        tried.devices = absl::StrCat("simulated:", devices, "x", kib, "KiB");
        (PlaceModel(tried).ok() ? enough : small) = kib;
        options_.devices = absl::StrCat("simulated:", devices, "x", enough, "KiB");
      }
      auto engine = MakeTestEngine(options_);
      std::set<int> used;  // a tied head may come back to the first device
      for (const Segment& segment : engine->model().plan.segments) used.insert(segment.device());
      if (map == "auto") {
        EXPECT_EQ(used.size(), static_cast<size_t>(devices));
      } else {
        EXPECT_GE(used.size(), static_cast<size_t>(std::min(devices, 2))) << options_.devices;
      }
      ExpectGolden(GenerateAll(*engine, Requests()));
    }
  }
}

TEST_P(ParityTest, Offloaded) {
  for (const auto& [on_disk, cpu_rows] : {std::pair(true, 0), {false, 0}, {false, 5}}) {
    OffloadMost(options_, on_disk, cpu_rows);
    auto engine = MakeTestEngine(options_);
    const Plan& plan = engine->model().plan;
    EXPECT_GT(on_disk ? plan.offloaded_to_disk : plan.offloaded_to_cpu, 0);
    ExpectGolden(GenerateAll(*engine, Requests()));
  }
}

TEST_P(ParityTest, ReferenceOperations) {
  options_.executor.reference_ops = true;
  auto engine = MakeTestEngine(options_);
  ExpectGolden(GenerateAll(*engine, Requests()));
}

INSTANTIATE_TEST_SUITE_P(Models, ParityTest, testing::ValuesIn(GoldenNames()),
                         [](const auto& info) { return absl::StrReplaceAll(info.param, {{"-", "_"}}); });

}  // namespace
}  // namespace causeway
