// Gets layers' outputs from a real daemon, by RPC and by the program `causeway layers`.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "tests/golden/golden.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;
using Floats = std::map<std::string, std::vector<float>>;

double WorstDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size() || a.empty()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, static_cast<double>(std::abs(a[i] - b[i])));
  return worst;
}

ProgramResult RunLayers(const DaemonProcess& daemon, Arguments arguments) {
  arguments.insert(arguments.begin(), "layers");
  return RunProgram("causeway", arguments, {{"CAUSEWAY_SERVER", daemon.grpc()}});
}

// A fixture on four devices, in fp32, whose prompts are read in steps of eleven tokens.
class SplitFixture : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    golden_ = new Golden(*LoadGolden("llama-base"));
    daemon_ = new DaemonProcess({"--model", golden_->folder, "--devices", "simulated:4x64MiB", "--dtype", "fp32",
                                 "--max-num-seqs", "8", "--max-num-batched-tokens", "11", "--layer-outputs-bytes-max",
                                 "200000"});
    ASSERT_TRUE(daemon_->WaitUntilServing());
    ids_ = absl::StrJoin(golden_->cases[3].prompt, ",");
  }
  static void TearDownTestSuite() {
    daemon_->Signal(SIGTERM);
    EXPECT_EQ(daemon_->Wait(), 0);
    delete daemon_;
    delete golden_;
  }
  static Floats Saved(Arguments arguments) {
    const std::string path = ::testing::TempDir() + "layers_test.safetensors";
    std::filesystem::remove(path);
    arguments.insert(arguments.end(), {"--tokens", ids_, "--output", path});
    const ProgramResult result = RunLayers(*daemon_, arguments);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("max |x|"));
    return ReadFloats(path).value();
  }
  static std::vector<std::string> Names(const Floats& tensors) {
    std::vector<std::string> names;
    for (const auto& [name, values] : tensors) names.push_back(name);
    return names;
  }
  static void Refuses(const Arguments& arguments, const std::string& message, int status = 64) {
    const ProgramResult result = RunLayers(*daemon_, arguments);
    EXPECT_EQ(result.status, status) << absl::StrJoin(arguments, " ");
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.out, "");
  }

  static Golden* golden_;
  static DaemonProcess* daemon_;
  static std::string ids_;
};
Golden* SplitFixture::golden_ = nullptr;
DaemonProcess* SplitFixture::daemon_ = nullptr;
std::string SplitFixture::ids_;

TEST_F(SplitFixture, AFileHoldsTransformersHiddenStates) {
  const GoldenStates expected = LoadGoldenStates("llama-base").value();
  const Floats all = Saved({});
  EXPECT_THAT(Names(all), ElementsAre("hidden_states.0", "hidden_states.1", "hidden_states.2", "hidden_states.3",
                                      "hidden_states.4", "token_ids"));
  for (size_t i = 0; i < expected.hidden_states.size(); ++i) {
    EXPECT_LE(WorstDifference(all.at(absl::StrCat("hidden_states.", i)), expected.hidden_states[i]), 1e-4) << i;
  }
  const std::vector<int32_t>& prompt = golden_->cases[3].prompt;
  EXPECT_EQ(all.at("token_ids"), std::vector<float>(prompt.begin(), prompt.end()));

  const Floats some = Saved({"--layers", "-1,0"});
  EXPECT_THAT(Names(some), ElementsAre("hidden_states.0", "hidden_states.4", "token_ids"));
  EXPECT_EQ(some.at("hidden_states.4"), all.at("hidden_states.4"));
  const Floats last = Saved({"--layers", "4", "--before-final-norm"});
  EXPECT_THAT(Names(last), ElementsAre("hidden_states.4", "token_ids"));
  EXPECT_LE(WorstDifference(last.at("hidden_states.4"), expected.last_layer), 1e-4);
}

TEST_F(SplitFixture, MistakesAreNamed) {
  Refuses({"--tokens", "5", "--layers", "5"}, "layers[0] is 5, expected a number in [-5, 4]: the model has 4 layers");
  Refuses({"--tokens", "5", "--layers", "0,-6"}, "layers[1] is -6, expected a number in [-5, 4]");
  Refuses({"--tokens", "5", "--layers", "4,-1"},
          "layers[1] is -1, which was there before as 4; expected each layer at most once");
  Refuses({"--tokens", "5", "--layers", "1,x"}, "\"x\" is no layer; expected layers as in 0,5,-1, or all");
  Refuses({"--tokens", "5", "--layers", ""}, "\"\" is no layer");
  Refuses({"--tokens", "5,199"}, "tokens.ids[1] is 199, expected an id in [0, 199)");
  Refuses({"--tokens", absl::StrJoin(std::vector<int>(256, 5), ",")},
          "the prompt has 256 tokens and max_model_len is 256");
  Refuses({"--tokens", absl::StrJoin(std::vector<int>(255, 5), ",")},
          "the outputs of 5 layers for 255 tokens take 239.1 KiB, and at most 195.3 KiB are held "
          "(layer_outputs_bytes_max)");
  Refuses({"--prompt", "In"}, "has no tokenizer");
  Refuses({"--tokens", "5", "--model", "other"}, "model \"other\" is not served here", 1);
  Refuses({"--tokens", "5", "--priority", "1001"}, "priority is 1001");
  Refuses({"--tokens", "5", "--output", "/nonexistent/x"},
          "cannot write /nonexistent/x.partial: No such file or directory");
  Refuses({}, "needs --prompt or --tokens");
  Refuses({"--tokens", "5", "--prompt", "In"}, "excludes");

  const auto admin = v1::Admin::NewStub(daemon_->Channel());
  const auto error = [&](const v1::ExtractLayerOutputsRequest& request) {
    grpc::ClientContext call;
    v1::ExtractLayerOutputsResponse event;
    auto stream = admin->ExtractLayerOutputs(&call, request);
    EXPECT_FALSE(stream->Read(&event));
    return stream->Finish();
  };
  const grpc::Status nothing = error({});
  EXPECT_EQ(nothing.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(nothing.error_message(), HasSubstr("no input: set one of prompt, tokens and chat"));
  v1::ExtractLayerOutputsRequest empty;
  empty.mutable_tokens();
  EXPECT_THAT(error(empty).error_message(), HasSubstr("tokens.ids is empty"));
}

TEST_F(SplitFixture, EachCountsOnce) {
  const auto count = [](const std::string& outcome) {
    return daemon_->Metrics().at(
        absl::StrCat("causeway_requests_total{model=\"llama-base\",outcome=\"", outcome, "\"}"));
  };
  const double length = count("length"), invalid = count("invalid");
  RunLayers(*daemon_, {"--tokens", ids_});
  RunLayers(*daemon_, {"--tokens", ids_, "--layers", "9"});
  EXPECT_EQ(count("length"), length + 1);
  EXPECT_EQ(count("invalid"), invalid + 1);
}

// The bundled model with steps so small that long texts take a while.
class SmallSteps : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    daemon_ = new DaemonProcess({"--model", CAUSEWAY_SOURCE_DIR "/models/kjv", "--max-num-seqs", "8",
                                 "--max-num-batched-tokens", "8", "--layer-outputs-bytes-max", "24000000"});
    ASSERT_TRUE(daemon_->WaitUntilServing());
    admin_ = v1::Admin::NewStub(daemon_->Channel()).release();
  }
  static void TearDownTestSuite() {
    daemon_->Signal(SIGTERM);
    EXPECT_EQ(daemon_->Wait(), 0);
    delete admin_;
    delete daemon_;
  }
  static v1::ExtractLayerOutputsRequest Request(int tokens) {
    v1::ExtractLayerOutputsRequest request;
    for (int i = 0; i < tokens; ++i) request.mutable_tokens()->add_ids(6 + i % 1000);
    return request;
  }
  static v1::GetStatusResponse Status() {
    grpc::ClientContext call;
    v1::GetStatusResponse status;
    EXPECT_TRUE(admin_->GetStatus(&call, {}, &status).ok());
    return status;
  }
  // Blocks are freed within a step of a request's end.
  static void WaitUntilIdle() {
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    v1::GetStatusResponse status = Status();
    for (; status.requests_running() + status.requests_waiting() + status.kv_cache().used() > 0; status = Status()) {
      ASSERT_LT(absl::Now(), give_up) << status.DebugString();
    }
  }
  static int64_t Ended(const std::string& outcome) {
    const v1::GetStatusResponse status = Status();
    return status.requests_ended().at(outcome);
  }
  // Returns all rows of a stream, or its error.
  static grpc::Status Read(const v1::ExtractLayerOutputsRequest& request, std::map<int, std::string>* values) {
    grpc::ClientContext call;
    auto stream = admin_->ExtractLayerOutputs(&call, request);
    v1::ExtractLayerOutputsResponse event;
    while (stream->Read(&event)) {
      if (event.has_rows()) (*values)[event.rows().layer()] += event.rows().values();
    }
    return stream->Finish();
  }

  static DaemonProcess* daemon_;
  static v1::Admin::Stub* admin_;
};
DaemonProcess* SmallSteps::daemon_ = nullptr;
v1::Admin::Stub* SmallSteps::admin_ = nullptr;

TEST_F(SmallSteps, ACancelledOneFreesItsBlocks) {
  const int64_t cancelled = Ended("cancelled"), deadline = Ended("deadline");
  {
    grpc::ClientContext call;
    auto stream = admin_->ExtractLayerOutputs(&call, Request(2000));
    v1::ExtractLayerOutputsResponse event;
    ASSERT_TRUE(stream->Read(&event));
    EXPECT_EQ(event.accepted().rows(), 2000);
    EXPECT_EQ(event.accepted().layers_size(), 7);
    const absl::Time give_up = absl::Now() + absl::Seconds(60);
    while (Status().kv_cache().used() < 4 && absl::Now() < give_up) {
    }
    call.TryCancel();
    EXPECT_FALSE(stream->Read(&event));
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  WaitUntilIdle();
  EXPECT_EQ(Ended("cancelled"), cancelled + 1);
  {
    grpc::ClientContext call;
    call.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(20));
    auto stream = admin_->ExtractLayerOutputs(&call, Request(1000));  // a step in flight may hold the other's memory
    v1::ExtractLayerOutputsResponse event;
    while (stream->Read(&event)) {
    }
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  WaitUntilIdle();
  EXPECT_EQ(Ended("deadline"), deadline + 1);
}

TEST_F(SmallSteps, GenerationsBesideItAreUnaffected) {
  const auto generation = v1::Generation::NewStub(daemon_->Channel());
  const auto generate = [&] {
    v1::GenerateRequest request;
    request.set_prompt("In the beginning");
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stop()->set_max_tokens(40);
    grpc::ClientContext call;
    v1::GenerateResponse response;
    const grpc::Status status = generation->Generate(&call, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.choices_size() > 0 ? response.choices(0).text() : "";
  };
  const std::string text = generate();
  EXPECT_GT(text.size(), 40u);
  std::map<int, std::string> alone, beside;
  ASSERT_TRUE(Read(Request(600), &alone).ok());
  std::thread extraction([&] { EXPECT_TRUE(Read(Request(600), &beside).ok()); });
  for (int i = 0; i < 3; ++i) EXPECT_EQ(generate(), text);
  extraction.join();
  ASSERT_EQ(alone.size(), 7u);
  EXPECT_EQ(alone.at(0).size() % (600 * sizeof(float)), 0u);
  EXPECT_EQ(beside, alone);
}

TEST_F(SmallSteps, ATextIsTokenized) {
  const std::string text = "In the beginning God created";
  const std::string path = ::testing::TempDir() + "layers_text.safetensors";
  const ProgramResult result = RunLayers(*daemon_, {"--prompt", text, "--layers", "3", "--output", path});
  ASSERT_EQ(result.status, 0) << result.err;
  const Floats saved = ReadFloats(path).value();
  v1::ExtractLayerOutputsRequest request;
  request.set_prompt(text);
  request.add_layers(3);
  std::map<int, std::string> values;
  ASSERT_TRUE(Read(request, &values).ok());
  const std::vector<float>& expected = saved.at("hidden_states.3");
  EXPECT_EQ(values.at(3), std::string(reinterpret_cast<const char*>(expected.data()), expected.size() * sizeof(float)));
  EXPECT_EQ(expected.size() % saved.at("token_ids").size(), 0u);
}

TEST_F(SmallSteps, WhatNobodyReadsIsHeldAndBounded) {
  grpc::ClientContext slow;
  auto stream = admin_->ExtractLayerOutputs(&slow, Request(2000));
  v1::ExtractLayerOutputsResponse event;
  ASSERT_TRUE(stream->Read(&event));
  WaitUntilIdle();  // computed, but mostly not read
  std::map<int, std::string> values;
  const grpc::Status refused = Read(Request(2000), &values);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("(layer_outputs_bytes_max) are held for other requests"));
  size_t bytes = 0;
  while (stream->Read(&event)) bytes += event.rows().values().size();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(bytes % (7 * 2000 * sizeof(float)), 0u);
  EXPECT_GT(bytes, 0u);
  EXPECT_TRUE(Read(Request(2000), &values).ok());
}

// An address of this machine that is not on the loopback interface, or "".
std::string OtherAddress() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return "";
  std::string found;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET || (entry->ifa_flags & IFF_LOOPBACK) != 0)
      continue;
    char text[INET_ADDRSTRLEN];
    if (inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr, text, sizeof(text)) !=
        nullptr)
      found = text;
  }
  freeifaddrs(list);
  return found;
}

TEST(AdminOnly, AnswersTheLoopbackInterface) {
  const std::string address = OtherAddress();
  if (address.empty()) GTEST_SKIP() << "this machine has the loopback interface alone";
  DaemonProcess daemon(
      {"--model", LoadGolden("llama-base")->folder, "--devices", "simulated:1x64MiB", "--listen", address + ":0"});
  ASSERT_TRUE(daemon.WaitUntilServing());
  for (const Arguments& command :
       {Arguments{"layers", "--tokens", "5"}, {"plan"}, {"plan", "--dtype", "fp32"}, {"status"}}) {
    const ProgramResult result =
        RunProgram("causeway", command, {{"CAUSEWAY_SERVER", daemon.grpc()}, {"no_proxy", "*"}});
    EXPECT_EQ(result.status, 1) << command[0] << result.err;
    EXPECT_THAT(result.err, HasSubstr("answers callers on the loopback interface only"));
  }
}

}  // namespace
}  // namespace causeway
