// Tests the RPCs of a real causewayd on the bundled model.
#include <signal.h>
#include <sys/wait.h>

#include <cstdio>
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "tests/support/daemon_process.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

// One daemon serves all tests here; each uses ids and counts differences of its own.
class Server : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    daemon_ = new DaemonProcess(
        {"--model", CAUSEWAY_SOURCE_DIR "/models/kjv", "--max-num-seqs", "32", "--log-level", "debug"});
    ASSERT_TRUE(daemon_->WaitUntilServing());
    generation_ = v1::Generation::NewStub(daemon_->Channel()).release();
    admin_ = v1::Admin::NewStub(daemon_->Channel()).release();
  }
  static void TearDownTestSuite() {
    daemon_->Signal(SIGTERM);
    EXPECT_EQ(daemon_->Wait(), 0);
    // No prompt and no output is ever logged.
    EXPECT_FALSE(absl::StrContains(daemon_->Err(), "beginning"));
    delete generation_;
    delete admin_;
    delete daemon_;
  }
  static v1::GenerateRequest Greedy(const std::string& prompt, int64_t max_tokens) {
    v1::GenerateRequest request;
    request.set_prompt(prompt);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stop()->set_max_tokens(max_tokens);
    return request;
  }
  static v1::GenerateRequest Endless(const std::string& id) {
    v1::GenerateRequest request = Greedy("In the beginning", 2000);
    request.set_request_id(id);
    request.mutable_stop()->set_ignore_eos(true);
    request.mutable_sampling()->set_n(4);
    return request;
  }
  static v1::GenerateResponse Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext call;
    v1::GenerateResponse response;
    const grpc::Status status = generation_->Generate(&call, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  static grpc::Status Error(const v1::GenerateRequest& request) {
    grpc::ClientContext call;
    v1::GenerateResponse response;
    return generation_->Generate(&call, request, &response);
  }
  static double Outcome(const std::string& outcome) {
    return daemon_->Metrics().at("causeway_requests_total{model=\"kjv\",outcome=\"" + outcome + "\"}");
  }
  // Waits until the daemon holds no request: blocks are freed within a step of a request's end.
  static void WaitUntilIdle() {
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    v1::GetStatusResponse status;
    do {
      grpc::ClientContext call;
      ASSERT_TRUE(admin_->GetStatus(&call, {}, &status).ok());
      ASSERT_LT(absl::Now(), give_up) << status.DebugString();
    } while (status.requests_running() + status.requests_waiting() + status.kv_cache().used() > 0);
  }

  static DaemonProcess* daemon_;
  static v1::Generation::Stub* generation_;
  static v1::Admin::Stub* admin_;
};
DaemonProcess* Server::daemon_ = nullptr;
v1::Generation::Stub* Server::generation_ = nullptr;
v1::Admin::Stub* Server::admin_ = nullptr;

TEST_F(Server, StreamsWhatItGenerates) {
  v1::GenerateRequest request = Greedy("In the beginning", 24);
  request.mutable_output()->set_token_ids(true);
  request.mutable_output()->set_top_logprobs(3);
  const v1::GenerateResponse whole = Generate(request);
  ASSERT_EQ(whole.choices_size(), 1);
  EXPECT_FALSE(whole.choices(0).text().empty());
  EXPECT_EQ(whole.choices(0).finish_reason(), v1::LENGTH);
  EXPECT_EQ(whole.choices(0).token_ids_size(), 24);
  EXPECT_EQ(whole.usage().generated_tokens(), 24);
  EXPECT_GT(whole.timing().decode_seconds(), 0);
  for (const v1::TokenLogprob& token : whole.choices(0).logprobs()) {
    ASSERT_EQ(token.top_size(), 3);
    EXPECT_LE(token.logprob(), 0);
    EXPECT_EQ(token.top(0).token_id(), token.token_id());  // greedy takes the likeliest
    EXPECT_GE(token.top(0).logprob(), token.top(1).logprob());
  }

  grpc::ClientContext call;
  auto stream = generation_->GenerateStream(&call, request);
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_EQ(event.accepted().prompt_tokens(), whole.usage().prompt_tokens());
  std::string text;
  std::vector<int32_t> ids;
  while (stream->Read(&event) && event.has_delta()) {
    text += event.delta().text();
    ids.insert(ids.end(), event.delta().token_ids().begin(), event.delta().token_ids().end());
  }
  EXPECT_TRUE(event.has_finished());
  EXPECT_EQ(event.finished().usage().generated_tokens(), 24);
  EXPECT_FALSE(stream->Read(&event));
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(text, whole.choices(0).text());
  EXPECT_THAT(ids, ElementsAreArray(whole.choices(0).token_ids()));
}

TEST_F(Server, ChatsEchoesStopsAndChooses) {
  v1::GenerateRequest chat = Greedy("", 8);
  auto* message = chat.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("Who made the heavens?");
  chat.mutable_output()->set_echo(true);
  EXPECT_THAT(Generate(chat).choices(0).text(), HasSubstr("Who made the heavens?"));

  v1::GenerateRequest request = Greedy("In the beginning", 24);
  const std::string text = Generate(request).choices(0).text();
  request.mutable_output()->set_echo(true);
  EXPECT_EQ(Generate(request).choices(0).text(), "In the beginning" + text);
  request.clear_output();

  // A word of the answer; the stop string cuts the answer there.
  const std::string word = text.substr(text.size() / 2, 4);
  request.mutable_stop()->add_strings(word);
  const v1::GenerateResponse stopped = Generate(request);
  EXPECT_EQ(stopped.choices(0).finish_reason(), v1::STOP);
  EXPECT_EQ(stopped.choices(0).stop_match(), word);
  EXPECT_EQ(stopped.choices(0).text(), text.substr(0, text.find(word)));
  request.mutable_stop()->set_include_stop(true);
  EXPECT_EQ(Generate(request).choices(0).text(), text.substr(0, text.find(word) + word.size()));

  v1::GenerateRequest several = Greedy("And the king said", 12);
  several.mutable_sampling()->set_temperature(1);
  several.mutable_sampling()->set_seed(5);
  several.mutable_sampling()->set_n(3);
  const v1::GenerateResponse first = Generate(several), second = Generate(several);
  ASSERT_EQ(first.choices_size(), 3);
  EXPECT_NE(first.choices(0).text(), first.choices(1).text());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(first.choices(i).text(), second.choices(i).text());
}

TEST_F(Server, TokenizesThereAndBack) {
  for (const std::string text :
       {"In the beginning God created the heaven", "caf\u00e9 \u2603 \U0001F600\n\ttab  two", ""}) {
    v1::TokenizeRequest request;
    request.set_text(text);
    request.set_add_special_tokens(false);
    v1::TokenizeResponse tokens;
    grpc::ClientContext there, back;
    ASSERT_TRUE(generation_->Tokenize(&there, request, &tokens).ok());
    EXPECT_EQ(tokens.text(), text);
    v1::DetokenizeRequest ids;
    *ids.mutable_ids() = tokens.ids();
    v1::DetokenizeResponse again;
    ASSERT_TRUE(generation_->Detokenize(&back, ids, &again).ok());
    EXPECT_EQ(again.text(), text);
  }
  v1::DetokenizeRequest wrong;
  wrong.add_ids(1 << 30);
  v1::DetokenizeResponse unused;
  grpc::ClientContext call;
  EXPECT_EQ(generation_->Detokenize(&call, wrong, &unused).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(Server, ErrorsHaveTheirCodes) {
  const double invalid = Outcome("invalid");
  v1::GenerateRequest request = Greedy("x", 1);
  request.set_model("gpt-9");
  grpc::Status status = Error(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("\"kjv\" is"));
  request = Greedy("x", 1);
  request.mutable_sampling()->set_top_p(2);
  EXPECT_EQ(Error(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  request = Greedy("x", 1);
  request.mutable_tokens()->add_ids(4096);
  status = Error(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("4096"));
  request.mutable_tokens()->mutable_ids()->Resize(3000, 5);
  EXPECT_EQ(Error(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);  // longer than the context
  request = Greedy("x", 1);
  request.mutable_sampling()->set_num_beams(4);
  EXPECT_EQ(Error(request).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(Outcome("invalid"), invalid + 5);
  // This is above the limit of a received message.
  EXPECT_EQ(Error(Greedy(std::string(17 << 20, 'x'), 1)).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(Server, CancelsByRpcByClosingAndByDeadline) {
  const double cancelled = Outcome("cancelled"), deadline = Outcome("deadline");
  {
    grpc::ClientContext call, admin_call;
    auto stream = generation_->GenerateStream(&call, Endless("by-rpc"));
    v1::GenerateStreamResponse event;
    ASSERT_TRUE(stream->Read(&event));
    v1::CancelRequest cancel;
    cancel.set_request_id("by-rpc");
    v1::CancelResponse unused;
    EXPECT_TRUE(admin_->Cancel(&admin_call, cancel, &unused).ok());
    while (stream->Read(&event)) {
    }
    EXPECT_EQ(event.finished().choices(0).finish_reason(), v1::CANCELLED);
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  WaitUntilIdle();
  {
    grpc::ClientContext call;
    auto stream = generation_->GenerateStream(&call, Endless("by-closing"));
    v1::GenerateStreamResponse event;
    ASSERT_TRUE(stream->Read(&event));
    call.TryCancel();
    stream->Finish();
  }
  WaitUntilIdle();
  {
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    v1::GenerateResponse unused;
    EXPECT_EQ(generation_->Generate(&call, Endless("by-deadline"), &unused).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  WaitUntilIdle();
  EXPECT_EQ(Outcome("cancelled"), cancelled + 2);
  EXPECT_EQ(Outcome("deadline"), deadline + 1);
  // The same id is used twice at once.
  grpc::ClientContext call;
  auto stream = generation_->GenerateStream(&call, Endless("twice"));
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_EQ(Error(Endless("twice")).error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(daemon_->Err(), HasSubstr("request refused request_id=twice "));
  // The second one's end does not end the first one.
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(stream->Read(&event));
    EXPECT_TRUE(event.has_delta());
  }
  call.TryCancel();
  stream->Finish();
  WaitUntilIdle();
}

TEST_F(Server, AdminTellsOfModelPlanAndStatus) {
  grpc::ClientContext model_call, plan_call, status_call;
  v1::GetModelResponse model;
  ASSERT_TRUE(admin_->GetModel(&model_call, {}, &model).ok());
  EXPECT_EQ(model.name(), "kjv");
  EXPECT_EQ(model.architecture(), "llama");
  EXPECT_TRUE(model.has_tokenizer());
  EXPECT_TRUE(model.has_chat_template());
  EXPECT_GT(model.parameters(), 1'000'000);
  v1::GetPlanResponse plan;
  ASSERT_TRUE(admin_->GetPlan(&plan_call, {}, &plan).ok());
  EXPECT_THAT(plan.table(), HasSubstr("cpu"));
  EXPECT_EQ(plan.segments(0).device(), "cpu");
  v1::GetStatusResponse status;
  ASSERT_TRUE(admin_->GetStatus(&status_call, {}, &status).ok());
  EXPECT_EQ(status.state(), v1::SERVING);
  EXPECT_EQ(status.load_bytes_done(), status.load_bytes_total());
  ASSERT_EQ(status.devices_size(), 1);
  // The plan also counts buffers such as the rotary frequencies, as transformers' maps do.
  EXPECT_NEAR(status.devices(0).memory().weights(), plan.devices(0).weights(), 0.01 * plan.devices(0).weights());
  EXPECT_GT(status.devices(0).memory().other(), 0);
}

// Reflection, written by hand: field 7 of the request lists the services, and their names are in the answer.
TEST_F(Server, ReflectionListsTheServices) {
  grpc::GenericStub stub(daemon_->Channel());
  grpc::CompletionQueue queue;
  grpc::ClientContext call;
  auto stream = stub.PrepareCall(&call, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  const auto done = [&queue] {
    void* tag;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  stream->StartCall(nullptr);
  ASSERT_TRUE(done());
  grpc::Slice slice(std::string("\x3a\x00", 2));
  stream->Write(grpc::ByteBuffer(&slice, 1), nullptr);
  ASSERT_TRUE(done());
  grpc::ByteBuffer answer;
  stream->Read(&answer, nullptr);
  ASSERT_TRUE(done());
  grpc::Slice flat;
  ASSERT_TRUE(answer.DumpToSingleSlice(&flat).ok());
  const std::string bytes(reinterpret_cast<const char*>(flat.begin()), flat.size());
  for (const char* service : {"causeway.v1.Generation", "causeway.v1.Admin", "grpc.health.v1.Health"})
    EXPECT_THAT(bytes, HasSubstr(service));
  call.TryCancel();
  grpc::Status status;
  stream->Finish(&status, nullptr);
  done();
}

// The daemon counts what its clients counted, to the request and to the token.
TEST_F(Server, CountersReconcile) {
  WaitUntilIdle();
  const auto before = daemon_->Metrics();
  std::map<std::string, double> seen;
  double prompt_tokens = 0, generated_tokens = 0;
  std::mutex mutex;
  std::vector<std::thread> clients;
  for (int c = 0; c < 6; ++c) {
    clients.emplace_back([&, c] {
      for (int i = 0; i < 4; ++i) {
        v1::GenerateRequest request = Greedy("And it came to pass", 4 + c);
        if (i == 3) request.mutable_sampling()->set_n(99);
        grpc::ClientContext call;
        v1::GenerateResponse response;
        const grpc::Status status = generation_->Generate(&call, request, &response);
        std::lock_guard lock(mutex);
        if (!status.ok()) {
          ++seen["invalid"];
          continue;
        }
        ++seen[response.choices(0).finish_reason() == v1::LENGTH ? "length" : "stop"];
        prompt_tokens += static_cast<double>(response.usage().prompt_tokens());
        generated_tokens += static_cast<double>(response.usage().generated_tokens());
      }
    });
  }
  for (std::thread& client : clients) client.join();
  WaitUntilIdle();
  const auto after = daemon_->Metrics();
  const auto grown = [&](const std::string& sample) { return after.at(sample) - before.at(sample); };
  for (const char* outcome : {"stop", "length", "cancelled", "deadline", "rejected", "invalid", "error"}) {
    EXPECT_EQ(grown(std::string("causeway_requests_total{model=\"kjv\",outcome=\"") + outcome + "\"}"), seen[outcome])
        << outcome;
  }
  EXPECT_EQ(grown("causeway_prompt_tokens_total{model=\"kjv\"}"), prompt_tokens);
  EXPECT_EQ(grown("causeway_generated_tokens_total{model=\"kjv\"}"), generated_tokens);
  EXPECT_EQ(grown("causeway_request_duration_seconds_count{model=\"kjv\"}"), seen["length"] + seen["stop"]);
  EXPECT_EQ(grown("causeway_time_to_first_token_seconds_count{model=\"kjv\"}"), seen["length"] + seen["stop"]);
  EXPECT_EQ(grown("causeway_queue_wait_seconds_count{model=\"kjv\"}"), seen["length"] + seen["stop"]);
  EXPECT_EQ(after.at("causeway_kv_cache_blocks{model=\"kjv\",state=\"used\"}"), 0);
}

TEST_F(Server, PromtoolHasNothingToSay) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0) GTEST_SKIP() << "promtool is not installed";
  const std::string file = ::testing::TempDir() + "/daemon-scrape.txt";
  std::FILE* out = std::fopen(file.c_str(), "w");
  std::fputs(daemon_->Get("/metrics").second.c_str(), out);
  std::fclose(out);
  std::FILE* lint = popen(("promtool check metrics < " + file + " 2>&1").c_str(), "r");
  std::string said(8192, '\0');
  said.resize(std::fread(said.data(), 1, said.size(), lint));
  EXPECT_EQ(WEXITSTATUS(pclose(lint)), 0);
  EXPECT_EQ(said, "");
}

TEST(TwoDaemons, LiveSideBySide) {
  DaemonProcess one({"--model", CAUSEWAY_SOURCE_DIR "/models/kjv", "--served-model-name", "one"});
  DaemonProcess two({"--model", CAUSEWAY_SOURCE_DIR "/models/kjv", "--served-model-name", "two", "--devices",
                     "simulated:2x256MiB", "--device-map", "balanced", "--max-num-seqs", "4"});
  ASSERT_TRUE(one.WaitUntilServing());
  ASSERT_TRUE(two.WaitUntilServing());
  v1::GenerateRequest request;
  request.set_prompt("In the beginning");
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(8);
  std::string texts[2];
  for (int i = 0; i < 2; ++i) {
    request.set_model(i == 0 ? "one" : "two");
    grpc::ClientContext call;
    v1::GenerateResponse response;
    const grpc::Status status =
        v1::Generation::NewStub((i == 0 ? one : two).Channel())->Generate(&call, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    texts[i] = response.choices(0).text();
  }
  EXPECT_EQ(texts[0], texts[1]);
  // Hidden states crossed from one simulated device to the other.
  EXPECT_GT(two.Metrics().at("causeway_transfer_bytes_total{from=\"simulated:0\",to=\"simulated:1\"}"), 0);
  for (DaemonProcess* daemon : {&one, &two}) {
    daemon->Signal(SIGTERM);
    EXPECT_EQ(daemon->Wait(), 0);
  }
}

TEST(WithoutTokenizer, ServesTokenIds) {
  const TinyCheckpoint tiny(TinyLlama());
  DaemonProcess daemon({"--model", tiny.folder(), "--served-model-name", "tiny"});
  ASSERT_TRUE(daemon.WaitUntilServing());
  EXPECT_THAT(daemon.Err(), HasSubstr("no tokenizer"));
  auto stub = v1::Generation::NewStub(daemon.Channel());
  v1::GenerateRequest request;
  request.mutable_tokens()->add_ids(5);
  request.mutable_stop()->set_max_tokens(6);
  request.mutable_stop()->set_ignore_eos(true);
  v1::GenerateResponse response;
  grpc::ClientContext ids_call, text_call;
  ASSERT_TRUE(stub->Generate(&ids_call, request, &response).ok());
  EXPECT_EQ(response.choices(0).token_ids_size(), 6);
  EXPECT_EQ(response.choices(0).text(), "");
  request.set_prompt("text");
  const grpc::Status status = stub->Generate(&text_call, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("has no tokenizer and takes token ids only"));
}

TEST(MixtureOfExperts, TellsWhereItsTokensWent) {
  const TinyCheckpoint tiny(TinyQwen3Moe());
  DaemonProcess daemon({"--model", tiny.folder(), "--served-model-name", "tiny", "--devices", "simulated:2x256MiB",
                        "--device-map", "balanced"});
  ASSERT_TRUE(daemon.WaitUntilServing());
  const auto sample = [&](const std::string& name, int layer, const std::string& more = "") {
    return daemon.Metrics().at("causeway_" + name + "{model=\"tiny\",layer=\"" + std::to_string(layer) + "\"" + more +
                               "}");
  };
  EXPECT_EQ(sample("layer_expert_tokens_total", 1), 0);  // the warm-up doesn't count
  v1::GenerateRequest request;
  for (int id : {5, 9, 31}) request.mutable_tokens()->add_ids(id);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(6);
  v1::GenerateResponse response;
  grpc::ClientContext call;
  ASSERT_TRUE(v1::Generation::NewStub(daemon.Channel())->Generate(&call, request, &response).ok());
  // There are the prompt's rows, and one for each token but the last. There is at most one more, where the end was not
  // foreseen.
  const double rows = 3 + response.choices(0).token_ids_size() - 1;
  for (int layer : {1, 2, 3}) {
    const double tokens = sample("layer_expert_tokens_total", layer);
    EXPECT_GE(tokens, 3 * rows);
    EXPECT_LE(tokens, 3 * (rows + 1));
    double sum = 0;
    for (int e = 0; e < 8; ++e) sum += sample("expert_tokens_total", layer, ",expert=\"" + std::to_string(e) + "\"");
    EXPECT_EQ(sum, tokens);
    EXPECT_EQ(sample("layer_experts", layer), 8);
    EXPECT_GE(sample("layer_busy_experts_total", layer), 3 * sample("layer_expert_steps_total", layer));
  }
  EXPECT_EQ(daemon.Metrics().count("causeway_layer_experts{model=\"tiny\",layer=\"0\"}"), 0u);
}

}  // namespace
}  // namespace causeway
