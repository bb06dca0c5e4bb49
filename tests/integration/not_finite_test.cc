// Models whose weights hold NaN or infinite numbers: the load says so, requests that meet them end with INTERNAL, and
// those that don't are served as if nothing were.
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/support/test_engine.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
constexpr int32_t kBroken = 77;  // the token whose embedding is

// Overwrites one fp32 value of a tensor in the folder's model.safetensors.
void Put(const std::string& folder, const std::string& tensor, int64_t element, float value) {
  std::fstream file(folder + "/model.safetensors", std::ios::binary | std::ios::in | std::ios::out);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), 8);
  std::string text(length, '\0');
  file.read(text.data(), static_cast<std::streamsize>(length));
  const int64_t begin = Json::parse(text).at(tensor).at("data_offsets").at(0).get<int64_t>();
  file.seekp(static_cast<std::streamoff>(8 + length + begin + 4 * element));
  file.write(reinterpret_cast<const char*>(&value), 4);
}

class NotFiniteTest : public ::testing::TestWithParam<bool> {
 protected:
  NotFiniteTest() : tiny_(TinyLlama()) {}

  std::unique_ptr<Engine> Start() {
    EngineOptions options;
    options.model = tiny_.folder();
    options.devices = "cpu";
    options.dtype = "fp32";
    options.executor.cpu_threads = 2;
    options.executor.reference_ops = GetParam();
    options.plan.max_num_seqs = 4;
    options.plan.kv_cache_tokens = 1024;
    return MakeTestEngine(options);
  }
  static std::vector<int32_t> Prompt(int32_t at20) {
    std::vector<int32_t> prompt;
    for (int32_t i = 0; i < 40; ++i) prompt.push_back(3 + i);
    prompt[20] = at20;
    return prompt;
  }
  static std::shared_ptr<CollectingSink> Generate(Engine& engine, GenerationRequest request) {
    return GenerateAll(engine, {std::move(request)})[0];
  }

  const TinyCheckpoint tiny_;
};

TEST_P(NotFiniteTest, RequestsThatMeetSuchWeightsEndAndTheOthersDoNot) {
  const std::vector<int32_t> expected = Generate(*Start(), GreedyRequest("good", Prompt(5), 8))->choices[0].tokens;
  Put(tiny_.folder(), "model.embed_tokens.weight", kBroken * 64 + 3, std::numeric_limits<float>::quiet_NaN());
  Put(tiny_.folder(), "model.embed_tokens.weight", kBroken * 64 + 9, -std::numeric_limits<float>::infinity());
  std::unique_ptr<Engine> engine = Start();
  const NotFiniteWeights counted = {{"model.embed_tokens.weight", 2}};
  EXPECT_EQ(engine->Stats().executor.not_finite, counted);

  // Beside each other, and again: what the broken one has computed is not found by its prefix.
  for (int round = 0; round < 2; ++round) {
    const auto sinks =
        GenerateAll(*engine, {GreedyRequest("good", Prompt(5), 8), GreedyRequest("bad", Prompt(kBroken), 8)});
    EXPECT_EQ(sinks[0]->choices[0].tokens, expected);
    EXPECT_EQ(sinks[1]->end.status.code(), absl::StatusCode::kInternal) << sinks[1]->end.status;
    EXPECT_THAT(sinks[1]->end.status.message(), HasSubstr("NaN or infinite"));
    EXPECT_TRUE(sinks[1]->choices[0].tokens.empty());
    EXPECT_LE(sinks[1]->end.cached_tokens, 16) << "the block that the good one has computed, at most";
  }
  EXPECT_EQ(engine->Stats().scheduler.blocks_used, 0);

  GenerationRequest scored = GreedyRequest("scored", Prompt(kBroken), 4);
  scored.sampling.logprobs = scored.sampling.prompt_logprobs = true;
  EXPECT_EQ(Generate(*engine, std::move(scored))->end.status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Generate(*engine, GreedyRequest("good", Prompt(5), 8))->choices[0].tokens, expected);
}

TEST_P(NotFiniteTest, AModelOfWhichNothingIsFiniteServesNothing) {
  Put(tiny_.folder(), "model.norm.weight", 0, std::numeric_limits<float>::infinity());
  std::unique_ptr<Engine> engine = Start();
  const NotFiniteWeights counted = {{"model.norm.weight", 1}};
  EXPECT_EQ(engine->Stats().executor.not_finite, counted);
  GenerationRequest drawn = GreedyRequest("drawn", Prompt(5), 8);
  drawn.sampling.temperature = 1;
  EXPECT_EQ(Generate(*engine, std::move(drawn))->end.status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Generate(*engine, GreedyRequest("greedy", Prompt(5), 8))->end.status.code(), absl::StatusCode::kInternal);
}

INSTANTIATE_TEST_SUITE_P(Ops, NotFiniteTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Reference" : "Fused"; });

}  // namespace
}  // namespace causeway
