// Compares tokens and logprobs, bit by bit, for any number of threads and wherever they are stopped.
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/threads/team.h"
#include "tests/support/test_engine.h"

namespace causeway {
namespace {

// Stops a thread for up to 4 ms in one of some hundred places, as a busy neighbour does.
void RandomDelay() {
  thread_local std::mt19937 random(std::hash<std::thread::id>()(std::this_thread::get_id()));
  if (random() % 400 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
}

struct Case {
  std::string name, model, dtype, quantize;
};

class TeamTokensTest : public ::testing::TestWithParam<Case> {
 protected:
  ~TeamTokensTest() override { SetTeamDelay(nullptr); }

  struct Output {
    std::vector<std::vector<int32_t>> tokens;
    std::vector<std::vector<float>> logprobs;
    bool operator==(const Output&) const = default;
  };

  static Output Generate(int threads) {
    EngineOptions options;
    options.model = absl::StrCat(CAUSEWAY_SOURCE_DIR, "/", GetParam().model);
    options.devices = "cpu";
    options.dtype = GetParam().dtype;
    options.quantize = GetParam().quantize;
    options.executor.cpu_threads = threads;
    options.plan.max_num_seqs = 8;
    options.plan.max_num_batched_tokens = 256;
    options.plan.kv_cache_tokens = 4096;
    auto engine = MakeTestEngine(options);
    std::mt19937 random(1);
    std::vector<GenerationRequest> requests;
    for (const int length : {1, 7, 40, 90}) {  // prompts in chunks beside sequences that decode
      std::vector<int32_t> prompt(length);
      for (int32_t& token : prompt) token = 6 + static_cast<int32_t>(random() % 50);
      requests.push_back(GreedyRequest(absl::StrCat(length), prompt, 16));
      requests.back().sampling.logprobs = true;
    }
    Output output;
    for (const auto& sink : GenerateAll(*engine, requests)) {
      EXPECT_TRUE(sink->end.status.ok()) << sink->end.status;
      output.tokens.push_back(sink->choices[0].tokens);
      output.logprobs.push_back(sink->choices[0].logprobs);
    }
    return output;
  }
};

TEST_P(TeamTokensTest, DependNeitherOnTheThreadsNorOnDelays) {
  const Output alone = Generate(1);
  ASSERT_EQ(alone.tokens.size(), 4u);
  ASSERT_EQ(alone.logprobs[3].size(), 16u);
  for (const int threads : {2, 3, 8}) {
    EXPECT_EQ(Generate(threads), alone) << threads << " threads";
    SetTeamDelay(RandomDelay);
    EXPECT_EQ(Generate(threads), alone) << threads << " threads, delayed";
    SetTeamDelay(nullptr);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TeamTokensTest,
                         ::testing::Values(Case{"bf16", "models/kjv", "bf16", ""},
                                           Case{"fp32", "models/kjv", "fp32", ""},
                                           Case{"int8", "models/kjv", "bf16", "int8"},
                                           Case{"int4", "models/kjv", "bf16", "int4"},
                                           Case{"experts", "tests/golden/models/qwen3-moe-stacked", "fp32", ""},
                                           Case{"gpt2", "tests/golden/models/gpt2-base", "fp32", ""}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace causeway
