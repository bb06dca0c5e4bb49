// Tests work that is done before a request is queued, in a real causewayd on the bundled model: it holds up nobody, and
// is bounded.
#include <signal.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

class Prepare : public ::testing::Test {
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
  static v1::GenerateRequest Request() {
    v1::GenerateRequest request;
    request.set_prompt("In the beginning");
    request.mutable_stop()->set_max_tokens(1);
    return request;
  }
  // A grammar that is about as hard to compile as one may be.
  static v1::GenerateRequest Slow() {
    std::string names = "\"p0\":{}", uses;
    for (int i = 1; i < 950; ++i) absl::StrAppend(&names, ",\"p", i, "\":{}");
    for (int i = 0; i < 10; ++i)
      absl::StrAppend(&uses, i > 0 ? "," : "", R"({"allOf":[{"$ref":"#/$defs/b"},{"required":["p)", i, "\"]}]}");
    v1::GenerateRequest request = Request();
    request.mutable_grammar()->set_json_schema(absl::StrCat(R"({"$defs":{"b":{"type":"object","properties":{)", names,
                                                            R"(}}},"type":"array","prefixItems":[)", uses, "]}"));
    return request;
  }
  static grpc::Status Generate(const v1::GenerateRequest& request, absl::Duration timeout = absl::Seconds(120)) {
    grpc::ClientContext call;
    call.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    v1::GenerateResponse response;
    return generation_->Generate(&call, request, &response);
  }

  static DaemonProcess* daemon_;
  static v1::Generation::Stub* generation_;
};
DaemonProcess* Prepare::daemon_ = nullptr;
v1::Generation::Stub* Prepare::generation_ = nullptr;

TEST_F(Prepare, HardGrammarsHoldUpNobodyElse) {
  constexpr int kSlow = 8;
  std::atomic<int> ended{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < kSlow; ++i) {
    clients.emplace_back([&] {
      const grpc::Status status = Generate(Slow());
      EXPECT_TRUE(status.ok()) << status.error_message();
      ++ended;
    });
  }
  const auto health = grpc::health::v1::Health::NewStub(daemon_->Channel());
  const auto admin = v1::Admin::NewStub(daemon_->Channel());
  for (int i = 0; i < 10; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
    grpc::ClientContext health_call, status_call;
    grpc::health::v1::HealthCheckResponse serving;
    v1::GetStatusResponse unused;
    EXPECT_TRUE(health->Check(&health_call, {}, &serving).ok());
    EXPECT_TRUE(admin->GetStatus(&status_call, {}, &unused).ok());
    EXPECT_TRUE(Generate(Request()).ok());
  }
  EXPECT_LT(ended, kSlow) << "all of that was answered meanwhile";
  // A request that is given up while it waits is not begun.
  EXPECT_EQ(Generate(Slow(), absl::Milliseconds(50)).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(Generate(Slow()).ok());  // after it in the queue
  EXPECT_THAT(daemon_->Err(), HasSubstr("the deadline passed before the request was prepared"));
}

TEST_F(Prepare, APromptThatCannotFitIsRefusedBeforeItIsTokenized) {
  v1::GenerateRequest request = Request();
  request.set_prompt(std::string(15 << 20, 'x'));
  const absl::Time start = absl::Now();
  const grpc::Status status = Generate(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(),
            "prompt has 15728640 bytes, expected at most 131072: max_model_len is 2048 tokens and the longest token "
            "has 16 bytes");
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));  // tokenizing it takes ten seconds
}

}  // namespace
}  // namespace causeway
