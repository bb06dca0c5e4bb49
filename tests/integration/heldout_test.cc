// Compares the bundled model's loss on text it has not seen, through our own engine, with what its trainer measured.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_split.h"
#include "engine/checkpoint/json.h"
#include "engine/engine.h"

namespace causeway {
namespace {

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";
constexpr int64_t kChunk = 256;

// The nats of all tokens after the first.
double Loss(Executor& executor, const std::vector<int32_t>& tokens, int64_t vocab, uint64_t& step) {
  double loss = 0;
  const auto length = static_cast<int64_t>(tokens.size());
  for (int64_t begin = 0; begin < length; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, length);
    StepPlan plan;
    plan.step = ++step;
    plan.tokens = plan.prefill_tokens = end - begin;
    StepSequence sequence;
    sequence.sequence = 1;
    sequence.tokens.assign(tokens.begin() + begin, tokens.begin() + end);
    sequence.context = begin;
    for (int64_t block = 0; block * 16 < end; ++block) sequence.block_table.push_back(static_cast<int32_t>(block));
    sequence.all_logits = true;
    if (begin == 0) {
      auto start = std::make_shared<SequenceStart>();
      start->tokens = tokens;
      start->prompt_tokens = length;
      sequence.start = start;
    }
    plan.sequences.push_back(std::move(sequence));
    executor.Run(std::move(plan));
    const StepResult result = executor.Wait();
    if (!result.status.ok()) throw std::runtime_error(result.status.ToString());
    for (int64_t row = begin; row < end && row + 1 < length; ++row) {
      const float* logits = result.logits[0].data() + (row - begin) * vocab;
      double top = logits[0], sum = 0;
      for (int64_t v = 1; v < vocab; ++v) top = std::max<double>(top, logits[v]);
      for (int64_t v = 0; v < vocab; ++v) sum += std::exp(logits[v] - top);
      loss += top + std::log(sum) - logits[tokens[row + 1]];
    }
  }
  return loss;
}

struct Measured {
  std::vector<double> nats;  // of the tokens of each chapter after the first
  std::vector<int64_t> tokens;
  double nats_per_token = 0, bits_per_byte = 0;
};

// Measures the model's loss on the chapters. Throws on any error.
Measured Measure(const std::string& dtype, std::optional<DType> kv_dtype, const std::string& quantize,
                 const std::vector<std::string>& chapters) {
  EngineOptions options;
  options.model = kModel;
  options.devices = "cpu";
  options.dtype = dtype;
  options.quantize = quantize;
  options.plan.max_num_batched_tokens = kChunk;
  options.plan.max_num_seqs = kChunk;  // the head has room for as many rows as sequences may sample
  options.plan.kv_cache_tokens = 2048;
  options.plan.kv_dtype = kv_dtype;
  absl::StatusOr<PlacedModel> placed = PlaceModel(options);
  if (!placed.ok()) throw std::runtime_error(placed.status().ToString());
  auto executor = MakeExecutor(placed->spec, *placed->checkpoint, placed->plan, options.executor, nullptr);
  if (!executor.ok()) throw std::runtime_error(executor.status().ToString());
  auto tokenizer = Tokenizer::Load(kModel);
  if (!tokenizer.ok()) throw std::runtime_error(tokenizer.status().ToString());
  Measured measured;
  double nats = 0;
  int64_t scored = 0, bytes = 0;
  uint64_t step = 0;
  for (const std::string& chapter : chapters) {
    const std::vector<int32_t> tokens = *(*tokenizer)->Encode(chapter, true);
    measured.nats.push_back(Loss(**executor, tokens, placed->spec.vocab_size, step));
    measured.tokens.push_back(static_cast<int64_t>(tokens.size()) - 1);
    nats += measured.nats.back();
    scored += measured.tokens.back();
    bytes += static_cast<int64_t>(chapter.size());
  }
  measured.nats_per_token = nats / scored;
  measured.bits_per_byte = nats / std::log(2.0) / bytes;
  return measured;
}

std::vector<std::string> Chapters() {
  std::ifstream file(std::string(kModel) + "/heldout.txt");
  std::stringstream text;
  text << file.rdbuf();
  std::string all = text.str();
  while (!all.empty() && all.back() == '\n') all.pop_back();
  return absl::StrSplit(all, "\n\n");
}

// How the loss is computed, and how far it may be from the trainer's numbers, in nats a token: for each chapter and for
// all of them.
struct Case {
  std::string dtype;
  std::optional<DType> kv_dtype;
  double chapter, all;
};

TEST(HeldoutTest, LossOnUnseenChaptersIsWhatTheTrainerMeasured) {
  const std::vector<std::string> chapters = Chapters();
  const auto golden = ReadJsonFile(std::string(kModel) + "/heldout.json", 1 << 20);
  ASSERT_TRUE(golden.ok()) << golden.status();
  ASSERT_EQ(chapters.size(), (*golden)["chapters"].size());

  // An int8 cache costs less than rounding the computation to bf16 does: half a thousandth of a nat.
  for (const auto& [dtype, kv_dtype, chapter_tolerance, tolerance] : {Case{"fp32", {}, 2e-5, 1e-5},
                                                                      {"bf16", {}, 3e-3, 1e-3},
                                                                      {"fp16", {}, 3e-4, 1e-4},
                                                                      {"fp32", DType::kI8, 3e-3, 5e-4},
                                                                      {"bf16", DType::kI8, 4e-3, 1.5e-3}}) {
    const std::string name = kv_dtype.has_value() ? dtype + "_kv_int8" : dtype;
    const std::string trained = dtype == "fp16" ? "fp32" : dtype;  // beside fp16 weights the CPU computes in fp32
    const Measured here = Measure(dtype, kv_dtype, "none", chapters);
    for (size_t i = 0; i < chapters.size(); ++i) {
      const Json& chapter = (*golden)["chapters"][i];
      ASSERT_EQ(here.tokens[i], chapter["tokens"].get<int64_t>()) << chapter["title"];
      EXPECT_NEAR(here.nats[i], chapter["nll_" + trained].get<double>(), chapter_tolerance * (here.tokens[i] + 1))
          << chapter["title"] << " " << name;
    }
    EXPECT_NEAR(here.nats_per_token, (*golden)[trained]["nll_per_token"].get<double>(), tolerance) << name;
    EXPECT_LE(here.bits_per_byte, 2.2);
    RecordProperty("bits_per_byte_" + name, std::to_string(here.bits_per_byte));
    RecordProperty("nll_per_token_" + name, std::to_string(here.nats_per_token));
  }
}

// The perplexity that quantizing costs. docs/quantization.md states the figures printed here.
TEST(HeldoutTest, QuantizedWeightsCostLittlePerplexity) {
  const std::vector<std::string> chapters = Chapters();
  const double plain = std::exp(Measure("bf16", {}, "none", chapters).nats_per_token);
  std::printf("bf16: perplexity %.4f\n", plain);
  const std::pair<const char*, double> formats[] = {{"int8", 0.001}, {"int4:32", 0.03}, {"int4:64", 0.06}};
  for (const auto& [format, worse_max] : formats) {
    const Measured here = Measure("bf16", {}, format, chapters);
    const double perplexity = std::exp(here.nats_per_token);
    std::printf("%s: perplexity %.4f (%+.3f%%), %.4f bits per byte\n", format, perplexity,
                100 * (perplexity / plain - 1), here.bits_per_byte);
    EXPECT_LE(std::abs(perplexity / plain - 1), worse_max) << format;
    // The quantized model is close, but not the same.
    EXPECT_NE(perplexity, plain);
  }
}

}  // namespace
}  // namespace causeway
