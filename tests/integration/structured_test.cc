// Tests grammars and logprobs of prompts over gRPC, from a real causewayd on the bundled model.
#include <signal.h>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "causeway/v1/generation.grpc.pb.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

class Structured : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    daemon_ = new DaemonProcess({"--model", CAUSEWAY_SOURCE_DIR "/models/kjv", "--max-num-seqs", "8"});
    ASSERT_TRUE(daemon_->WaitUntilServing());
    generation_ = v1::Generation::NewStub(daemon_->Channel()).release();
  }
  static void TearDownTestSuite() {
    daemon_->Signal(SIGTERM);
    EXPECT_EQ(daemon_->Wait(), 0);
    delete generation_;
    delete daemon_;
  }
  static grpc::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response) {
    grpc::ClientContext call;
    return generation_->Generate(&call, request, response);
  }
  static v1::GenerateRequest Request() {
    v1::GenerateRequest request;
    request.set_prompt("In the beginning God created the heaven and the earth");
    request.mutable_sampling()->set_seed(3);
    request.mutable_stop()->set_max_tokens(100);
    return request;
  }

  static DaemonProcess* daemon_;
  static v1::Generation::Stub* generation_;
};
DaemonProcess* Structured::daemon_ = nullptr;
v1::Generation::Stub* Structured::generation_ = nullptr;

TEST_F(Structured, StreamedAndWholeFollowTheSchema) {
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->set_n(3);
  request.mutable_grammar()->set_json_schema(
      R"({"type": "object", "properties": {"verse": {"type": "integer", "minimum": 1, "maximum": 31}}, "required": ["verse"],
          "additionalProperties": false, "x-guidance": {"whitespace_flexible": false}})");
  v1::GenerateResponse whole;
  const grpc::Status status = Generate(request, &whole);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::vector<std::string> texts(3);
  for (const v1::Choice& choice : whole.choices()) {
    EXPECT_EQ(choice.finish_reason(), v1::STOP);
    EXPECT_EQ(choice.stop_match(), "");
    const int verse = nlohmann::json::parse(choice.text())["verse"];
    EXPECT_TRUE(verse >= 1 && verse <= 31) << verse;
  }
  grpc::ClientContext call;
  auto stream = generation_->GenerateStream(&call, request);
  v1::GenerateStreamResponse event;
  while (stream->Read(&event)) {
    if (event.has_delta()) texts[event.delta().index()] += event.delta().text();
  }
  EXPECT_TRUE(stream->Finish().ok());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(texts[i], whole.choices(i).text());
  const auto metrics = daemon_->Metrics();
  EXPECT_GE(metrics.at("causeway_constrained_requests_total{model=\"kjv\"}"), 2);
  EXPECT_GT(metrics.at("causeway_grammar_masks_total{model=\"kjv\"}"), 6);
  EXPECT_GT(metrics.at("causeway_grammar_mask_seconds_total{model=\"kjv\"}"), 0);
}

// However much a model likes it, there is one space after the brace and one before the other, and none where the
// request says so.
TEST_F(Structured, WhitespaceEndsAndCanBeSwitchedOff) {
  grpc::ClientContext call;
  v1::TokenizeRequest space;
  space.set_text(" ");
  space.set_add_special_tokens(false);
  v1::TokenizeResponse ids;
  ASSERT_TRUE(generation_->Tokenize(&call, space, &ids).ok());
  ASSERT_EQ(ids.ids_size(), 1);
  v1::GenerateRequest request = Request();
  request.mutable_grammar()->set_json_object(true);
  request.mutable_sampling()->set_temperature(0);
  (*request.mutable_sampling()->mutable_logit_bias())[ids.ids(0)] = 50;
  v1::GenerateResponse response;
  grpc::Status status = Generate(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.choices(0).text(), ::testing::StartsWith("{ "));
  EXPECT_THAT(response.choices(0).text(), ::testing::Not(::testing::StartsWith("{   ")));
  request.mutable_grammar()->set_compact_json(true);
  status = Generate(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.choices(0).text(), ::testing::AnyOf(::testing::StartsWith("{\""), "{}"));
}

TEST_F(Structured, WrongGrammarsAreNamed) {
  v1::GenerateRequest request = Request();
  v1::GenerateResponse response;
  request.mutable_grammar()->set_json_schema("{\"type\": \"thing\"}");
  grpc::Status status = Generate(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("grammar.json_schema: "));
  EXPECT_THAT(status.error_message(), HasSubstr("thing"));
  request.set_request_id("nowhere");
  request.mutable_grammar()->set_lark("start: \"a\" rest\nrest: rest \"b\"");  // begins, and cannot go on
  status = Generate(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "grammar.lark: no token of the vocabulary goes on here, and the text may not end");
  // The log has the field's name, and nothing of the request's text.
  EXPECT_THAT(daemon_->Err(), HasSubstr("code=INVALID_ARGUMENT message=grammar.json_schema\n"));
  EXPECT_THAT(daemon_->Err(), HasSubstr("error=grammar.lark\n"));
  EXPECT_THAT(daemon_->Err(), ::testing::Not(HasSubstr("thing")));
  request = Request();
  request.mutable_sampling()->set_num_beams(2);
  status = Generate(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("sampling.num_beams is 2"));
}

TEST_F(Structured, LogprobsOfThePromptAreThoseOfTheTokensWhenGenerated) {
  v1::GenerateRequest request = Request();
  request.mutable_output()->set_prompt_logprobs(true);
  request.mutable_output()->set_top_logprobs(2);
  request.mutable_stop()->set_max_tokens(4);
  request.mutable_sampling()->set_n(2);
  v1::GenerateResponse whole;
  const grpc::Status status = Generate(request, &whole);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const auto& scored = whole.choices(0).prompt_logprobs();
  ASSERT_EQ(scored.size() + 1, whole.usage().prompt_tokens());
  EXPECT_EQ(whole.choices(1).prompt_logprobs_size(), 0);
  EXPECT_EQ(scored[0].top_size(), 2);
  EXPECT_EQ(whole.usage().cached_tokens(), 0);

  grpc::ClientContext call;
  auto stream = generation_->GenerateStream(&call, request);
  v1::GenerateStreamResponse event;
  std::vector<v1::TokenLogprob> streamed;
  bool generated = false;
  while (stream->Read(&event)) {
    for (const v1::TokenLogprob& token : event.delta().prompt_logprobs()) streamed.push_back(token);
    EXPECT_FALSE(generated && event.delta().prompt_logprobs_size() > 0) << "the prompt's come first";
    generated |= event.delta().index() == 0 && event.delta().logprobs_size() > 0;
  }
  EXPECT_TRUE(stream->Finish().ok());
  ASSERT_EQ(static_cast<int>(streamed.size()), scored.size());
  for (int i = 0; i < scored.size(); ++i) {
    EXPECT_EQ(streamed[i].token_id(), scored[i].token_id());
    EXPECT_NEAR(streamed[i].logprob(), scored[i].logprob(), 0.05);
  }
}

}  // namespace
}  // namespace causeway
