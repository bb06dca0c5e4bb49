#include "server/rpc/prepare_request.h"

#include <cmath>
#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/rpc/fake_engine.h"
#include "server/rpc/limits.h"
#include "server/rpc/model_defaults.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PrepareRequestTest : public ::testing::Test {
 protected:
  PrepareRequestTest() : serving_{&engine_, "fake", {}} { wire_.mutable_tokens()->add_ids(5); }

  // The error when `change` is made to a valid request.
  absl::Status Refused(const std::function<void(v1::GenerateRequest&)>& change) {
    v1::GenerateRequest wire = wire_;
    change(wire);
    return PrepareRequest(wire, serving_).status();
  }
  void ExpectInvalid(const std::function<void(v1::GenerateRequest&)>& change, const std::string& message) {
    const absl::Status status = Refused(change);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_EQ(status.message(), message);
  }

  FakeEngine engine_;
  Serving serving_;
  v1::GenerateRequest wire_;
};

TEST_F(PrepareRequestTest, TakesTheModelsDefaults) {
  serving_.defaults = {.temperature = 0.7, .top_k = 40, .top_p = 0.9, .min_p = 0.05, .repetition_penalty = 1.1};
  auto prepared = PrepareRequest(wire_, serving_);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  const GenerationRequest& request = prepared->request;
  EXPECT_EQ(request.sampling.temperature, 0.7);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_EQ(request.sampling.top_p, 0.9);
  EXPECT_EQ(request.sampling.min_p, 0.05);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.1);
  EXPECT_EQ(request.n, 1);
  EXPECT_EQ(request.stop.max_tokens, 0);
  EXPECT_THAT(request.stop.token_ids, ElementsAre(2));
  EXPECT_THAT(request.prompt, ElementsAre(5));
  EXPECT_FALSE(request.request_id.empty());
  // Seeds and ids are made up anew each time.
  auto again = PrepareRequest(wire_, serving_);
  EXPECT_NE(again->request.request_id, request.request_id);
  EXPECT_NE(again->request.sampling.seed, request.sampling.seed);
  // Without a tokenizer there is nothing but ids to show.
  EXPECT_TRUE(prepared->output.token_ids);
}

TEST_F(PrepareRequestTest, TakesWhatTheRequestSays) {
  v1::SamplingOptions& sampling = *wire_.mutable_sampling();
  sampling.set_temperature(0);
  sampling.set_seed(7);
  sampling.set_n(3);
  (*sampling.mutable_logit_bias())[9] = 2;
  (*sampling.mutable_logit_bias())[3] = -1;
  sampling.set_typical_p(0.75);
  v1::StopOptions& stop = *wire_.mutable_stop();
  stop.set_max_tokens(9);
  stop.set_min_tokens(2);
  stop.add_token_ids(8);
  stop.set_ignore_eos(true);
  wire_.mutable_output()->set_top_logprobs(4);
  wire_.mutable_output()->set_echo(true);
  wire_.set_priority(-3);
  wire_.set_cache_salt("salt");
  wire_.set_request_id("mine");
  serving_.defaults.temperature = 0.7;
  auto prepared = PrepareRequest(wire_, serving_);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  const GenerationRequest& request = prepared->request;
  EXPECT_EQ(request.sampling.typical_p, 0.75);
  EXPECT_EQ(request.sampling.temperature, 0);
  EXPECT_EQ(request.sampling.seed, 7u);
  EXPECT_THAT(request.sampling.logit_bias,
              ElementsAre(std::pair<int32_t, float>(3, -1), std::pair<int32_t, float>(9, 2)));
  EXPECT_TRUE(request.sampling.logprobs);
  EXPECT_EQ(request.sampling.top_logprobs, 4);
  EXPECT_EQ(request.n, 3);
  EXPECT_EQ(request.stop.max_tokens, 9);
  EXPECT_THAT(request.stop.token_ids, ElementsAre(8));
  EXPECT_EQ(request.priority, -3);
  EXPECT_EQ(request.cache_salt, "salt");
  EXPECT_EQ(request.request_id, "mine");
  EXPECT_THAT(prepared->output.echo_ids, ElementsAre(5));
}

TEST_F(PrepareRequestTest, NamesFieldValueAndRange) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  ExpectInvalid([](auto& r) { r.mutable_sampling()->set_temperature(2.5); },
                "sampling.temperature is 2.5, expected a number in [0, 2]");
  ExpectInvalid([&](auto& r) { r.mutable_sampling()->set_temperature(nan); },
                "sampling.temperature is nan, expected a number in [0, 2]");
  ExpectInvalid([](auto& r) { r.mutable_sampling()->set_top_p(0); },
                "sampling.top_p is 0, expected a number in (0, 1]");
  ExpectInvalid([](auto& r) { r.mutable_sampling()->set_top_k(-1); }, "sampling.top_k is -1, expected 0 (off) or more");
  ExpectInvalid([&](auto& r) { r.mutable_sampling()->set_repetition_penalty(infinity); },
                "sampling.repetition_penalty is inf, expected a finite number above 0");
  ExpectInvalid([](auto& r) { r.mutable_sampling()->set_presence_penalty(-2.1); },
                "sampling.presence_penalty is -2.1, expected a number in [-2, 2]");
  ExpectInvalid([](auto& r) { r.mutable_sampling()->set_typical_p(0); },
                "sampling.typical_p is 0, expected a number in (0, 1]");
  ExpectInvalid([](auto& r) { r.mutable_sampling()->set_n(17); }, "sampling.n is 17, expected a number in [1, 16]");
  ExpectInvalid([](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[100] = 1; },
                "sampling.logit_bias token id is 100, expected an id in [0, 100)");
  ExpectInvalid([](auto& r) { r.mutable_stop()->set_max_tokens(0); }, "stop.max_tokens is 0, expected 1 or more");
  ExpectInvalid([](auto& r) { r.mutable_stop()->set_max_tokens(2), r.mutable_stop()->set_min_tokens(3); },
                "stop.min_tokens is 3, expected a number in [0, max_tokens = 2]");
  ExpectInvalid([](auto& r) { r.mutable_stop()->add_token_ids(-1); },
                "stop.token_ids[0] is -1, expected an id in [0, 100)");
  ExpectInvalid(
      [](auto& r) {
        for (int i = 0; i < 17; ++i) r.mutable_stop()->add_strings("x");
      },
      "stop.strings has 17 entries, expected at most 16");
  ExpectInvalid([](auto& r) { r.mutable_stop()->add_strings("x"); },
                "stop.strings needs text, and the model has no tokenizer; use stop.token_ids");
  ExpectInvalid([](auto& r) { r.mutable_output()->set_top_logprobs(21); },
                "output.top_logprobs is 21, expected a number in [0, 20]");
  ExpectInvalid([](auto& r) { r.set_priority(1001); }, "priority is 1001, expected a number in [-1000, 1000]");
  ExpectInvalid([](auto& r) { r.set_cache_salt(std::string(257, 's')); },
                "cache_salt has 257 bytes, expected at most 256");
  ExpectInvalid([](auto& r) { r.set_request_id(std::string(129, 'r')); },
                "request_id has 129 bytes, expected at most 128");
  ExpectInvalid([](auto& r) { r.set_request_id("a\nb"); },
                "request_id is \"a\\nb\", expected printable ASCII characters");
  ExpectInvalid([](auto& r) { r.clear_input(); }, "no input: set one of prompt, tokens and chat");
  ExpectInvalid([](auto& r) { r.mutable_tokens()->clear_ids(); },
                "tokens.ids is empty, expected at least one token id");
  ExpectInvalid([](auto& r) { r.mutable_tokens()->add_ids(100); }, "tokens.ids[1] is 100, expected an id in [0, 100)");
  ExpectInvalid([](auto& r) { r.mutable_tokens()->add_ids(-1), r.mutable_output()->set_echo(true); },
                "tokens.ids[1] is -1, expected an id in [0, 100)");
  ExpectInvalid([](auto& r) { r.set_prompt("text"); },
                "prompt: the model \"fake\" has no tokenizer and takes token ids only (tokens.ids)");
}

TEST_F(PrepareRequestTest, RefusesWhatIsNotSupportedByName) {
  const auto unimplemented = [&](const std::function<void(v1::GenerateRequest&)>& change, const std::string& field) {
    const absl::Status status = Refused(change);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  };
  unimplemented([](auto& r) { r.mutable_sampling()->set_num_beams(4); },
                "sampling.num_beams is 4, and there is no beam search; ask for sampling.n");
  ExpectInvalid([](auto& r) { r.mutable_grammar()->set_regex("a"); },
                "grammar.regex: the model has no tokenizer, and grammars are about text");
  const absl::Status status = Refused([](auto& r) { r.set_model("other"); });
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "model \"other\" is not served here; \"fake\" is");
}

TEST(PrepareRequestWithText, ATemplateThatCannotBeUsedIsWhyChatsAreRefused) {
  FakeEngine engine(CAUSEWAY_SOURCE_DIR "/models/kjv");
  engine.RefuseChats("chat template line 3: unknown tag");
  v1::GenerateRequest wire;
  v1::ChatMessage& message = *wire.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("x");
  const absl::Status status = PrepareRequest(wire, Serving{&engine, "kjv", {}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      status.message(),
      "chat: the model \"kjv\" has a chat template that cannot be used: chat template line 3: unknown tag; send a "
      "prompt in the model's own format");
}

TEST(PrepareRequestWithText, GrammarsAreCompiledOrRefusedByName) {
  FakeEngine engine(CAUSEWAY_SOURCE_DIR "/models/kjv");
  const Serving serving{&engine, "kjv", {}};
  v1::GenerateRequest wire;
  wire.set_prompt("x");
  wire.mutable_sampling()->set_num_beams(1);
  const auto prepare = [&] { return PrepareRequest(wire, serving); };
  EXPECT_EQ(prepare()->request.grammar, nullptr);
  const auto error = [&] {
    const absl::Status status = prepare().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  v1::GrammarOptions& grammar = *wire.mutable_grammar();
  grammar.set_json_schema("{\"type\": \"integer\"}");
  EXPECT_NE(prepare()->request.grammar, nullptr);
  grammar.set_json_object(true);
  EXPECT_NE(prepare()->request.grammar, nullptr);
  grammar.set_json_object(false);
  EXPECT_EQ(error(), "grammar.json_object is false, expected true, or another kind of grammar");
  grammar.set_json_object(true);
  grammar.set_compact_json(true);
  EXPECT_NE(prepare()->request.grammar, nullptr);
  grammar.set_regex("a");
  EXPECT_EQ(error(), "grammar.compact_json is true, expected json_schema or json_object beside it");
  grammar.clear_compact_json();
  grammar.mutable_choice()->add_texts("yes");
  EXPECT_NE(prepare()->request.grammar, nullptr);
  grammar.mutable_choice()->add_texts("");
  EXPECT_EQ(error(), "grammar.choice.texts[1] is empty");
  grammar.mutable_choice()->clear_texts();
  EXPECT_EQ(error(), "grammar.choice.texts is empty, expected at least one text");
  for (int i = 0; i < 1025; ++i) grammar.mutable_choice()->add_texts("x");
  EXPECT_EQ(error(), "grammar.choice.texts has 1025 entries, expected at most 1024");
  grammar.set_json_schema("{\"type\": ");
  EXPECT_THAT(error(), HasSubstr("grammar.json_schema: no JSON: EOF while parsing a value at line 1 column 9"));
  grammar.set_regex("a(b");
  EXPECT_THAT(error(), HasSubstr("grammar.regex: "));
  grammar.set_lark("start: missing");
  EXPECT_THAT(error(), HasSubstr("grammar.lark: "));
}

TEST(PrepareRequestWithText, EncodesPromptsAndConversations) {
  FakeEngine engine(CAUSEWAY_SOURCE_DIR "/models/kjv");
  const Serving serving{&engine, "kjv", {}};
  v1::GenerateRequest wire;
  wire.set_prompt("In the beginning");
  wire.mutable_output()->set_echo(true);
  auto prepared = PrepareRequest(wire, serving);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(prepared->request.prompt, *engine.tokenizer()->Encode("In the beginning", true));
  EXPECT_EQ(prepared->output.echo_text, "In the beginning");
  EXPECT_FALSE(prepared->output.token_ids);
  EXPECT_TRUE(prepared->output.echo_ids.empty());

  // The echo of token ids is their text.
  const std::vector<int32_t> ids = prepared->request.prompt;
  wire.mutable_tokens()->mutable_ids()->Assign(ids.begin(), ids.end());
  prepared = PrepareRequest(wire, serving);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(prepared->request.prompt, ids);
  EXPECT_EQ(prepared->output.echo_text, *engine.tokenizer()->Decode(ids, false));

  auto* message = wire.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("Who art thou?");
  prepared = PrepareRequest(wire, serving);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  const std::vector<ChatMessage> messages = {{"user", "Who art thou?"}};
  EXPECT_EQ(prepared->output.echo_text, *engine.chat_template()->Render(messages, true));

  // This is refused before it is tokenized.
  const int64_t bytes_max = 4096;  // four times 64 tokens of 16 bytes, as the message below says
  v1::GenerateRequest large;
  large.set_prompt(std::string(bytes_max, 'x'));
  EXPECT_TRUE(PrepareRequest(large, serving).ok());
  large.mutable_prompt()->push_back('x');
  EXPECT_EQ(
      PrepareRequest(large, serving).status().message(),
      "prompt has 4097 bytes, expected at most 4096: max_model_len is 64 tokens and the longest token has 16 bytes");
  *large.mutable_chat()->add_messages() = *message;
  large.mutable_chat()->mutable_messages(0)->set_content(std::string(bytes_max, 'x'));
  EXPECT_THAT(PrepareRequest(large, serving).status().message(),
              HasSubstr("chat has 4108 bytes, expected at most 4096"));

  message->set_role("");
  EXPECT_EQ(PrepareRequest(wire, serving).status().message(), "chat.messages[0].role is empty");
  wire.mutable_chat()->clear_messages();
  EXPECT_EQ(PrepareRequest(wire, serving).status().message(), "chat.messages is empty, expected at least one message");
}

TEST(ModelDefaults, ReadsGenerationConfigAndWarnsOfNonsense) {
  std::vector<std::string> warnings;
  ModelDefaults defaults = ReadModelDefaults(
      Json::parse(R"({"temperature": 0.6, "top_k": 50, "top_p": 0.9, "min_p": null, "repetition_penalty": 1.2})"),
      &warnings);
  EXPECT_TRUE(warnings.empty());
  EXPECT_EQ(defaults.temperature, 0.6);
  EXPECT_EQ(defaults.top_k, 50);
  EXPECT_EQ(defaults.top_p, 0.9);
  EXPECT_EQ(defaults.min_p, 0);
  EXPECT_EQ(defaults.repetition_penalty, 1.2);
  defaults = ReadModelDefaults(Json::parse(R"({"temperature": 0.6, "do_sample": false})"), &warnings);
  EXPECT_EQ(defaults.temperature, 0);
  defaults =
      ReadModelDefaults(Json::parse(R"({"temperature": "hot", "top_p": 0, "repetition_penalty": -1})"), &warnings);
  EXPECT_EQ(warnings.size(), 3u);
  EXPECT_EQ(defaults.temperature, 1);
  EXPECT_EQ(defaults.top_p, 1);
  EXPECT_EQ(defaults.repetition_penalty, 1);
  EXPECT_EQ(ReadModelDefaults(Json::object(), &warnings).temperature, 1);
}

}  // namespace
}  // namespace causeway
