// Serves float16 checkpoints, through the engine. The CPU's kernels keep weights, keys and values in fp16 and compute
// in fp32: what they make is what fp32 makes of the same weights, but for the rounding of keys and values.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <c10/util/Half.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/support/test_engine.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using Choices = std::vector<CollectingSink::Choice>;

constexpr int kPrompts = 6;
constexpr int64_t kTokens = 24;

EngineOptions Options(const TinyCheckpoint& tiny, const std::string& dtype) {
  EngineOptions options;
  options.model = tiny.folder();
  options.devices = "cpu";
  options.dtype = dtype;
  options.executor.cpu_threads = 2;
  options.plan.max_num_seqs = kPrompts;
  options.plan.kv_cache_tokens = 2048;
  return options;
}

std::vector<GenerationRequest> Requests() {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < kPrompts; ++i) {
    std::vector<int32_t> prompt;
    for (int j = 0; j < 5 + 9 * i; ++j) prompt.push_back(3 + (7 * i + 11 * j) % 80);
    requests.push_back(GreedyRequest(absl::StrCat(i), std::move(prompt), kTokens));
    requests.back().sampling.logprobs = true;
  }
  return requests;
}

Choices Generate(const EngineOptions& options) {
  const std::unique_ptr<Engine> engine = MakeTestEngine(options);
  Choices choices;
  for (const auto& sink : GenerateAll(*engine, Requests())) {
    EXPECT_TRUE(sink->end.status.ok()) << sink->end.status;
    choices.push_back(sink->choices[0]);
  }
  return choices;
}

// Tokens up to where two texts part, and the largest difference of their log-probabilities.
struct Comparison {
  int64_t same = 0;
  double worst = 0;
};
Comparison Compare(const Choices& a, const Choices& b) {
  Comparison found;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t t = 0; t < a[i].tokens.size() && a[i].tokens[t] == b[i].tokens[t]; ++t) {
      ++found.same;
      found.worst = std::max<double>(found.worst, std::abs(a[i].logprobs[t] - b[i].logprobs[t]));
    }
  }
  return found;
}

// Fills a row of a tensor of fp16 in the folder's model.safetensors.
void FillRow(const std::string& folder, const std::string& tensor, int64_t row, float value) {
  std::fstream file(folder + "/model.safetensors", std::ios::binary | std::ios::in | std::ios::out);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), 8);
  std::string text(length, '\0');
  file.read(text.data(), static_cast<std::streamsize>(length));
  const Json header = Json::parse(text).at(tensor);
  ASSERT_EQ(header.at("dtype"), "F16");
  const int64_t columns = header.at("shape").at(1).get<int64_t>();
  const std::vector<c10::Half> values(columns, c10::Half(value));
  file.seekp(
      static_cast<std::streamoff>(8 + length + header.at("data_offsets").at(0).get<int64_t>() + row * columns * 2));
  file.write(reinterpret_cast<const char*>(values.data()), columns * 2);
}

class HalfTest : public ::testing::TestWithParam<std::string> {
 protected:
  static Json Config() {
    const Json half = {{"dtype", "float16"}};
    return GetParam() == "gpt2" ? TinyGpt2(half) : GetParam() == "qwen3_moe" ? TinyQwen3Moe(half) : TinyLlama(half);
  }

  const TinyCheckpoint tiny_{Config(), 1, DType::kF16};
};

TEST_P(HalfTest, TokensAreThoseOfFp32) {
  EngineOptions halves = Options(tiny_, "auto"), floats = Options(tiny_, "fp32");
  const absl::StatusOr<PlacedModel> placed = PlaceModel(halves), bf16 = PlaceModel(Options(tiny_, "bf16"));
  ASSERT_TRUE(placed.ok() && bf16.ok()) << placed.status();
  EXPECT_EQ(placed->plan.options.dtype, DType::kF16);
  EXPECT_EQ(placed->plan.devices[0].weights, bf16->plan.devices[0].weights);
  EXPECT_EQ(placed->plan.kv_bytes_per_token, bf16->plan.kv_bytes_per_token);

  const Comparison rounded = Compare(Generate(halves), Generate(floats));
  RecordProperty("logprob_error_max", std::to_string(rounded.worst));
  EXPECT_EQ(rounded.same, kPrompts * kTokens);
  EXPECT_LE(rounded.worst, 0.02);
  EXPECT_GT(rounded.worst, 0) << "keys and values were not rounded to fp16";

  // With the same cache there is no difference at all.
  halves.plan.kv_dtype = floats.plan.kv_dtype = DType::kI8;
  const Comparison same = Compare(Generate(halves), Generate(floats));
  EXPECT_EQ(same.same, kPrompts * kTokens);
  EXPECT_EQ(same.worst, 0);
}

TEST_P(HalfTest, SplitsAndOffloadingChangeNothing) {
  const std::string folder = absl::StrCat(testing::TempDir(), "/half-offload-", getpid());
  std::filesystem::create_directory(folder);
  for (const char* quantize : {"none", "int8"}) {
    SCOPED_TRACE(quantize);
    EngineOptions options = Options(tiny_, "auto");
    options.quantize = quantize;
    const Choices expected = Generate(options);
    const auto expect_same = [&expected](const EngineOptions& changed) {
      const Comparison found = Compare(Generate(changed), expected);
      EXPECT_EQ(found.same, kPrompts * kTokens);
      EXPECT_EQ(found.worst, 0);
    };
    options.devices = "simulated:3x64MiB";
    expect_same(options);

    // The smallest device that runs the model, most of it on disk.
    options.plan.offload_to_disk = true;
    options.executor.offload_folder = folder;
    for (int64_t small = 0, enough = 65536; enough - small > 16;) {
      const int64_t kib = (small + enough) / 2;
      EngineOptions tried = options;
      tried.devices = absl::StrCat("simulated:1x", kib, "KiB");
      const bool fits = PlaceModel(tried).ok();
      (fits ? enough : small) = kib;
      if (fits) options = tried;
    }
    EXPECT_GT(PlaceModel(options)->plan.offloaded_to_disk, 0);
    expect_same(options);
  }
  std::filesystem::remove_all(folder);
}

TEST_P(HalfTest, QuantizedWhileLoaded) {
  EngineOptions halves = Options(tiny_, "auto"), floats = Options(tiny_, "fp32");
  halves.quantize = floats.quantize = "int8";
  // fp32 computes with inputs as they are, and fp16, as bf16, with bytes of them: texts part sooner or later.
  const Comparison found = Compare(Generate(halves), Generate(floats));
  EXPECT_GE(found.same, kPrompts * kTokens / 4);
  EXPECT_LE(found.worst, 0.5);
  EXPECT_GT(found.worst, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, HalfTest, ::testing::Values("llama", "gpt2", "qwen3_moe"),
                         [](const auto& info) { return info.param; });

// Hidden states beyond 65504 are what they are in fp32. Where all is computed in fp16 (as on GPUs, and by the
// reference), such a request ends, and so it does where a key has to be cached in fp16.
TEST(HalfRangeTest, WhatExceedsItEndsTheRequestOrDoesNotMatter) {
  const TinyCheckpoint tiny(TinyLlama({{"dtype", "float16"}}), 1, DType::kF16);
  const auto ends = [&tiny](const std::string& dtype, bool reference, std::optional<DType> kv_dtype) {
    EngineOptions options = Options(tiny, dtype);
    options.executor.reference_ops = reference;
    options.plan.kv_dtype = kv_dtype;
    const std::unique_ptr<Engine> engine = MakeTestEngine(options);
    const auto sink = GenerateAll(*engine, {Requests()[3]})[0];
    EXPECT_TRUE(sink->end.status.ok() || sink->end.status.code() == absl::StatusCode::kInternal) << sink->end.status;
    return std::string(sink->end.status.message());
  };
  for (int64_t row = 0; row < 8; ++row) FillRow(tiny.folder(), "model.layers.1.mlp.down_proj.weight", row, 60000);
  EXPECT_EQ(ends("fp32", false, std::nullopt), "");
  EXPECT_EQ(ends("auto", false, std::nullopt), "");
  EXPECT_THAT(ends("auto", true, std::nullopt),
              AllOf(HasSubstr("NaN or infinite"), HasSubstr("65504"), HasSubstr("--dtype")));

  FillRow(tiny.folder(), "model.layers.2.self_attn.k_proj.weight", 0, 60000);
  EXPECT_EQ(ends("fp32", false, std::nullopt), "");
  EXPECT_EQ(ends("auto", false, DType::kI8), "");
  EXPECT_THAT(ends("auto", false, std::nullopt), HasSubstr("--dtype"));
}

}  // namespace
}  // namespace causeway
