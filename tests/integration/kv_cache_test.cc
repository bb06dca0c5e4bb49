// Compares an int8 KV cache with one of the computation's dtype, through the engine, on the bundled model.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/test_engine.h"

namespace causeway {
namespace {

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";
constexpr int kPrompts = 16;
constexpr int64_t kPromptTokens = 160, kTokens = 64;

EngineOptions Options(std::optional<DType> kv_dtype) {
  EngineOptions options;
  options.model = kModel;
  options.devices = "cpu";
  // CAUSEWAY_TEST_DEVICES=cuda runs the same tests on a GPU.
  if (const char* devices = std::getenv("CAUSEWAY_TEST_DEVICES")) options.devices = devices;
  options.dtype = "fp32";
  options.executor.cpu_threads = 2;
  options.plan.max_num_seqs = kPrompts;
  options.plan.max_model_len = 256;
  options.plan.kv_cache_tokens = kPrompts * 256;
  options.plan.kv_dtype = kv_dtype;
  return options;
}

// The prompts are pieces of text that the model has not seen.
std::vector<GenerationRequest> Requests(const Engine& engine) {
  std::ifstream file(std::string(kModel) + "/heldout.txt");
  std::stringstream text;
  text << file.rdbuf();
  const std::vector<int32_t> tokens = *engine.tokenizer()->Encode(text.str(), true);
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < kPrompts; ++i) {
    const auto begin = tokens.begin() + i * kPromptTokens;
    requests.push_back(GreedyRequest(absl::StrCat(i), {begin, begin + kPromptTokens}, kTokens));
    requests.back().sampling.logprobs = true;
  }
  return requests;
}

std::vector<CollectingSink::Choice> Generate(Engine& engine) {
  std::vector<CollectingSink::Choice> choices;
  for (const auto& sink : GenerateAll(engine, Requests(engine))) {
    EXPECT_TRUE(sink->end.status.ok()) << sink->end.status;
    choices.push_back(sink->choices[0]);
  }
  return choices;
}

TEST(KvCacheTest, Int8TokensAreMostlyTheSameAndTheirLogprobsClose) {
  const auto exact = Generate(*MakeTestEngine(Options(std::nullopt)));
  const auto small = Generate(*MakeTestEngine(Options(DType::kI8)));
  int64_t same = 0;
  double worst = 0, sum = 0;
  for (int i = 0; i < kPrompts; ++i) {
    ASSERT_EQ(small[i].tokens.size(), exact[i].tokens.size());
    // Texts part where two tokens are about equally likely. After that they cannot be compared.
    for (size_t t = 0; t < exact[i].tokens.size() && small[i].tokens[t] == exact[i].tokens[t]; ++t) {
      ++same;
      const double error = std::abs(small[i].logprobs[t] - exact[i].logprobs[t]);
      worst = std::max(worst, error);
      sum += error;
    }
  }
  RecordProperty("tokens_before_parting", std::to_string(same));
  RecordProperty("logprob_error_max", std::to_string(worst));
  RecordProperty("logprob_error_mean", std::to_string(sum / same));
  EXPECT_GE(same, kPrompts * kTokens * 8 / 10);
  EXPECT_LE(worst, 0.1);
  EXPECT_LE(sum / same, 0.01);
  EXPECT_GT(worst, 0) << "the cache was not quantized";
}

// No token depends on which blocks a sequence has, who computed them and where they are.
TEST(KvCacheTest, Int8TokensDependNeitherOnPreemptionNorPrefixesNorSplits) {
  const auto tokens = [](const EngineOptions& options, int rounds = 1) {
    const auto engine = MakeTestEngine(options);
    std::vector<std::vector<int32_t>> result;
    while (rounds-- > 0) {
      result.clear();
      for (const auto& choice : Generate(*engine)) result.push_back(choice.tokens);
    }
    return std::pair(result, engine->Stats());
  };
  const auto expected = tokens(Options(DType::kI8)).first;

  EngineOptions tight = Options(DType::kI8);
  tight.plan.kv_cache_tokens = 5 * 256;
  const auto [preempted, pressure] = tokens(tight);
  EXPECT_EQ(preempted, expected);
  EXPECT_GT(pressure.scheduler.preemptions, 0);

  const auto [again, prefixes] = tokens(Options(DType::kI8), 2);
  EXPECT_EQ(again, expected);
  EXPECT_GT(prefixes.scheduler.prefix_hit_tokens, kPrompts * 100);

  EngineOptions split = Options(DType::kI8);
  split.devices = "simulated:2x256MiB";
  EXPECT_EQ(tokens(split).first, expected);
}

}  // namespace
}  // namespace causeway
