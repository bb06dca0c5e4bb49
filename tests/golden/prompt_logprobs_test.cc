// Compares logprobs of prompts with those of transformers' logits: alone, together, in pieces, after a cached prefix,
// split.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/golden/golden.h"
#include "tests/support/test_engine.h"

namespace causeway {
namespace {

void ExpectLogprobs(const GoldenCase& golden, const std::vector<SampledToken>& scored) {
  ASSERT_EQ(scored.size() + 1, golden.prompt.size());
  const size_t vocab = golden.logits.size() / golden.prompt.size();
  for (size_t i = 0; i < scored.size(); ++i) {
    const float* row = golden.logits.data() + i * vocab;
    double sum = 0;
    for (size_t t = 0; t < vocab; ++t) sum += std::exp(static_cast<double>(row[t]));
    ASSERT_EQ(scored[i].token, golden.prompt[i + 1]);
    EXPECT_NEAR(scored[i].logprob, row[scored[i].token] - std::log(sum), 2e-4) << "token " << i + 1;
    ASSERT_EQ(scored[i].top_logprobs.size(), 3u);
    EXPECT_NEAR(scored[i].top_logprobs[0].logprob, *std::max_element(row, row + vocab) - std::log(sum), 2e-4);
  }
}

TEST(PromptLogprobs, EqualTransformers) {
  for (const std::string name : {"llama-base", "gpt2-base"}) {
    const absl::StatusOr<Golden> golden = LoadGolden(name);
    ASSERT_TRUE(golden.ok()) << golden.status();
    for (const char* devices : {"cpu", "simulated:2x64MiB"}) {
      for (const int64_t seqs : {1, 3, 64}) {
        SCOPED_TRACE(testing::Message() << name << " on " << devices << ", " << seqs << " rows of logits a step");
        EngineOptions options;
        options.model = golden->folder;
        options.devices = devices;
        options.dtype = "fp32";
        options.plan.max_num_seqs = seqs;
        options.plan.max_num_batched_tokens = 64;
        options.plan.max_model_len = 144;
        options.plan.kv_cache_tokens = 2048;
        options.executor.cpu_threads = 2;
        const auto engine = MakeTestEngine(options);
        // The second round finds its prompts in the cache; half of the requests don't ask for logprobs.
        for (int round = 0; round < 2; ++round) {
          std::vector<GenerationRequest> requests;
          for (size_t i = 0; i < 2 * golden->cases.size(); ++i) {
            requests.push_back(GreedyRequest(absl::StrCat(i), golden->cases[i / 2].prompt, 4));
            requests.back().sampling.prompt_logprobs = i % 2 == 0;
            requests.back().sampling.top_logprobs = 3;
            requests.back().n = 2;
          }
          const auto sinks = GenerateAll(*engine, std::move(requests));
          for (size_t i = 0; i < sinks.size(); ++i) {
            EXPECT_TRUE(sinks[i]->end.status.ok()) << sinks[i]->end.status;
            const GoldenCase& expected = golden->cases[i / 2];
            EXPECT_EQ(sinks[i]->choices[0].tokens,
                      std::vector<int32_t>(expected.tokens.begin(), expected.tokens.begin() + 4));
            EXPECT_TRUE(sinks[i]->choices[1].prompt.empty());
            if (i % 2 == 0) {
              ExpectLogprobs(expected, sinks[i]->choices[0].prompt);
            } else {
              EXPECT_TRUE(sinks[i]->choices[0].prompt.empty());
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace causeway
