// Runs grammars through the real engine, on the bundled model. A text that ended by itself always satisfies the
// grammar, whatever else the request asks for and whichever requests run beside it.
#include <algorithm>
#include <iostream>
#include <memory>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "tests/support/exact_json.h"
#include "tests/support/random_schema.h"
#include "tests/support/schema_check.h"
#include "tests/support/test_engine.h"

namespace causeway {
namespace {

using ::testing::Contains;

class GrammarTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { engine_ = MakeTestEngine(Options()).release(); }
  static void TearDownTestSuite() { delete engine_; }

  static EngineOptions Options() {
    EngineOptions options;
    options.model = CAUSEWAY_SOURCE_DIR "/models/kjv";
    options.devices = "cpu";
    options.dtype = "fp32";
    options.executor.cpu_threads = 2;
    options.plan.max_num_seqs = 32;
    options.plan.kv_cache_tokens = 32768;
    return options;
  }

  static GenerationRequest Request(Engine& engine, GrammarKind kind, std::vector<std::string> texts,
                                   double temperature) {
    static int count = 0;
    GenerationRequest request =
        GreedyRequest(absl::StrCat("g", ++count), *engine.tokenizer()->Encode("And the answer was: ", true), 200);
    request.sampling.temperature = temperature;
    request.sampling.seed = count;
    const auto& ends = engine.model().spec.eos_token_ids;
    request.stop.token_ids.assign(ends.begin(), ends.end());
    const auto grammar = engine.CompileGrammar({kind, std::move(texts)});
    EXPECT_TRUE(grammar.ok()) << grammar.status();
    if (grammar.ok()) request.grammar = *grammar;
    return request;
  }
  static GenerationRequest Request(GrammarKind kind, std::vector<std::string> texts, double temperature) {
    return Request(*engine_, kind, std::move(texts), temperature);
  }

  static Engine* engine_;
};

Engine* GrammarTest::engine_ = nullptr;

TEST_F(GrammarTest, RandomSchemasAreSatisfied) {
  std::mt19937_64 random(11);
  std::vector<nlohmann::json> schemas;
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 300; ++i) {
    nlohmann::json schema = RandomSchema(random, 3);
    nlohmann::json sent = schema;
    if (i % 2 > 0) sent["x-guidance"] = {{"whitespace_flexible", false}};
    requests.push_back(Request(GrammarKind::kJsonSchema, {sent.dump()}, i % 2));
    if (i % 5 == 0) requests.back().sampling.top_p = 0.9, requests.back().sampling.repetition_penalty = 1.2;
    schemas.push_back(std::move(schema));
  }
  const auto sinks = GenerateAll(*engine_, std::move(requests));
  int stopped = 0;
  for (size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_TRUE(sinks[i]->end.status.ok()) << sinks[i]->end.status << " " << schemas[i];
    if (sinks[i]->end.choices[0].reason != FinishReason::kStop) continue;
    ++stopped;
    const std::string& text = sinks[i]->choices[0].text;
    const absl::StatusOr<ExactJson> value = ParseExactJson(text);
    ASSERT_TRUE(value.ok()) << value.status() << " for " << schemas[i];
    EXPECT_EQ(SchemaViolation(*ParseExactJson(schemas[i].dump()), *value), "") << text << " for " << schemas[i];
  }
  std::cout << stopped << " of " << sinks.size() << " ended by themselves\n";
  EXPECT_GT(stopped, 270) << "the rest ran into max_tokens";
}

TEST_F(GrammarTest, RegexesMatchAndChoicesAreMade) {
  const char* const patterns[] = {"[A-Z][a-z]{2,8}( the [A-Z][a-z]{2,8})?", "\\d{4}-\\d\\d-\\d\\d", "(ab|cd)*e",
                                  "[^a]{3,5}", "x?y?z?"};
  const std::vector<std::string> choices = {"Yea", "Nay", "Yea, verily"};
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 100; ++i) requests.push_back(Request(GrammarKind::kRegex, {patterns[i % 5]}, i % 2));
  for (int i = 0; i < 50; ++i) requests.push_back(Request(GrammarKind::kChoice, choices, i % 2));
  const auto sinks = GenerateAll(*engine_, std::move(requests));
  for (size_t i = 0; i < sinks.size(); ++i) {
    if (sinks[i]->end.choices[0].reason == FinishReason::kLength) continue;  // (ab|cd)* may go on
    EXPECT_EQ(sinks[i]->end.choices[0].reason, FinishReason::kStop) << sinks[i]->end.status;
    const std::string text = sinks[i]->choices.contains(0) ? sinks[i]->choices[0].text : "";
    if (i < 100) {
      if (i % 5 == 3) {  // lengths count characters; std::regex counts bytes
        const auto characters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
        EXPECT_TRUE(characters >= 3 && characters <= 5 && text.find('a') == std::string::npos) << text;
        continue;
      }
      EXPECT_TRUE(std::regex_match(text, std::regex(patterns[i % 5]))) << text << " for " << patterns[i % 5];
    } else {
      EXPECT_THAT(choices, Contains(text));
    }
  }
}

TEST_F(GrammarTest, EndsByItself) {
  std::vector<GenerationRequest> requests;
  requests.push_back(Request(GrammarKind::kRegex, {"ab"}, 1));
  requests.push_back(Request(GrammarKind::kRegex, {"ab"}, 1));
  requests[1].stop.min_tokens = 100;  // the grammar has no room for them
  requests.push_back(Request(GrammarKind::kRegex, {"a{9}"}, 1));
  requests[2].stop.max_tokens = 9;  // enough in any form
  requests.push_back(Request(GrammarKind::kRegex, {"[0-9]{500}"}, 0));
  requests[3].stop.max_tokens = 5;
  requests.push_back(Request(GrammarKind::kRegex, {"[0-9]+"}, 1));
  requests[4].stop.min_tokens = 20, requests[4].stop.max_tokens = 30;
  requests.push_back(Request(GrammarKind::kRegex, {"[0-9]+"}, 1));
  requests[5].stop.token_ids = {}, requests[5].stop.max_tokens = 30;  // ignore_eos
  requests.push_back(Request(GrammarKind::kRegex, {"(one|two|three), (four|five)"}, 1));
  requests[6].n = 4;
  requests.push_back(Request(GrammarKind::kRegex, {"aXb"}, 0));
  requests[7].stop.strings = {"X"};
  const auto sinks = GenerateAll(*engine_, std::move(requests));
  for (int i : {0, 1}) {
    EXPECT_EQ(sinks[i]->choices[0].text, "ab");
    EXPECT_EQ(sinks[i]->end.choices[0].reason, FinishReason::kStop);
  }
  EXPECT_EQ(sinks[2]->choices[0].text, "aaaaaaaaa");
  EXPECT_EQ(sinks[2]->end.choices[0].reason, FinishReason::kStop) << "complete with its last token";
  EXPECT_EQ(sinks[3]->end.choices[0].reason, FinishReason::kLength);
  EXPECT_EQ(sinks[3]->choices[0].tokens.size(), 5u);
  EXPECT_GE(sinks[4]->choices[0].tokens.size(), 20u);
  EXPECT_EQ(sinks[5]->choices[0].tokens.size(), 30u);
  EXPECT_EQ(sinks[5]->end.choices[0].reason, FinishReason::kLength);
  for (int c = 0; c < 4; ++c)
    EXPECT_TRUE(std::regex_match(sinks[6]->choices[c].text, std::regex("(one|two|three), (four|five)")))
        << sinks[6]->choices[c].text;
  EXPECT_EQ(sinks[7]->choices[0].text, "a");
  EXPECT_EQ(sinks[7]->end.choices[0].stop_match, "X");
  const EngineStats stats = engine_->Stats();
  EXPECT_GE(stats.constrained_requests, 8);
  EXPECT_GT(stats.masks, 8);
  EXPECT_GT(stats.mask_seconds, 0);
}

// A stop id may be a token of the grammar's text. It stops like a stop string, but not before min_tokens. Where the
// grammar allows nothing else, it is text.
TEST_F(GrammarTest, StopIdsMayBeText) {
  const auto id = [](const std::string& text) {
    const std::vector<int32_t> ids = *engine_->tokenizer()->Encode(text, false);
    EXPECT_EQ(ids.size(), 1u) << text;
    return ids[0];
  };
  const auto ask = [&](const std::string& regex, int min_tokens, int stop) {
    GenerationRequest request = Request(GrammarKind::kRegex, {regex}, 1);
    request.stop.token_ids.push_back(stop);
    request.stop.min_tokens = min_tokens;
    return request;
  };
  std::vector<GenerationRequest> requests;
  requests.push_back(ask("0", 1, id("0")));
  requests.push_back(ask("0", 100, id("0")));
  requests.push_back(ask("00000x", 2, id("0")));
  requests.push_back(ask("00000x", 100, id("0")));
  requests.push_back(ask("(0|11)", 0, id("1")));
  for (GenerationRequest& request : requests) request.sampling.logit_bias = {{id("0"), 100}};
  requests.back().sampling.logit_bias = {{id("1"), 100}};
  const auto sinks = GenerateAll(*engine_, std::move(requests));
  const char* const texts[] = {"0", "0", "00", "00000x", ""};
  for (size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_TRUE(sinks[i]->end.status.ok()) << i << ": " << sinks[i]->end.status;
    EXPECT_EQ(sinks[i]->end.choices[0].reason, FinishReason::kStop) << i;
    EXPECT_EQ(sinks[i]->choices[0].text, texts[i]) << i;
  }
  EXPECT_EQ(sinks[1]->end.choices[0].stop_match, "") << "the grammar ended it";
  EXPECT_EQ(sinks[2]->end.choices[0].stop_match, "0");
  EXPECT_EQ(sinks[4]->end.choices[0].stop_match, "1");
}

TEST_F(GrammarTest, AVocabularyThatCannotGoOnIsAnError) {
  GenerationRequest request =
      Request(GrammarKind::kLark, {"start: \"a\" rest\nrest: rest \"b\""}, 0);  // never ends, never begins
  const auto sinks = GenerateAll(*engine_, {request});
  EXPECT_FALSE(sinks[0]->end.status.ok());
}

// Requests beside constrained ones get the same tokens as alone. Constrained ones get theirs, preempted or not.
TEST_F(GrammarTest, NeighboursAndPreemptionChangeNothing) {
  const auto run = [](Engine& engine) {
    std::vector<GenerationRequest> requests;
    for (int i = 0; i < 16; ++i) {
      requests.push_back(Request(engine, GrammarKind::kRegex, {"[a-z ]{40,60}(\\.|!)"}, 1));
      requests.back().sampling.seed = i;
      requests.back().stop.max_tokens = 80;
      requests.push_back(requests.back());
      requests.back().request_id += "-free";
      requests.back().grammar = nullptr;
      requests.back().stop.token_ids.clear();
    }
    std::vector<std::vector<int32_t>> tokens;
    for (const auto& sink : GenerateAll(engine, std::move(requests))) {
      EXPECT_TRUE(sink->end.status.ok()) << sink->end.status;
      tokens.push_back(sink->choices[0].tokens);
    }
    return tokens;
  };
  const auto expected = run(*engine_);
  EngineOptions options = Options();
  options.plan.max_model_len = 256;
  options.plan.kv_cache_tokens = 800;
  const auto tight = MakeTestEngine(options);
  EXPECT_EQ(run(*tight), expected);
  EXPECT_GT(tight->Stats().scheduler.preemptions, 0);
}

// One is cancelled, one out of time, one at work when the engine is destroyed: each ends once.
TEST_F(GrammarTest, UnfinishedOnesEnd) {
  auto engine = MakeTestEngine(Options());
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 12; ++i) {
    GenerationRequest request = Request(*engine, GrammarKind::kRegex, {"[a-z ]{2000,4000}"}, 1);
    request.stop.max_tokens = 1500;
    if (i % 3 == 1) request.deadline = Clock::Real()->Now() + absl::Milliseconds(30);
    sinks.push_back(std::make_shared<CollectingSink>());
    const auto handle = engine->Submit(std::move(request), sinks.back());
    ASSERT_TRUE(handle.ok()) << handle.status();
    if (i % 3 == 0) engine->Cancel(*handle);
  }
  for (int i = 0; i < 12; ++i) {
    if (i % 3 < 2) sinks[i]->Wait();
  }
  engine.reset();
  for (int i = 0; i < 12; ++i) {
    ASSERT_EQ(sinks[i]->ends, 1) << i;
    EXPECT_EQ(sinks[i]->end.choices[0].reason, i % 3 == 1 ? FinishReason::kDeadline : FinishReason::kCancelled) << i;
  }
}

}  // namespace
}  // namespace causeway
