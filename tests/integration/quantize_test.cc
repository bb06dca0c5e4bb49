// Tests the real daemon with --quantize: what it plans, holds, says and computes.
#include <signal.h>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>

#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

const char kKjv[] = CAUSEWAY_SOURCE_DIR "/models/kjv";

int64_t PlannedWeights(DaemonProcess& daemon, std::string* table) {
  grpc::ClientContext call;
  v1::GetPlanResponse plan;
  EXPECT_TRUE(v1::Admin::NewStub(daemon.Channel())->GetPlan(&call, {}, &plan).ok());
  *table = plan.table();
  return plan.devices(0).weights();
}

TEST(Quantize, TheDaemonServesAndHoldsWhatItPlanned) {
  int64_t before = 1 << 30;
  for (const std::string format : {"none", "int8", "int4"}) {
    DaemonProcess daemon({"--model", kKjv, "--quantize", format, "--kv-cache", "4096", "--devices", "cpu"});
    ASSERT_TRUE(daemon.WaitUntilServing());
    std::string table;
    const int64_t planned = PlannedWeights(daemon, &table);
    EXPECT_LT(planned, before) << format;
    before = planned;
    grpc::ClientContext status_call, call;
    v1::GetStatusResponse status;
    ASSERT_TRUE(v1::Admin::NewStub(daemon.Channel())->GetStatus(&status_call, {}, &status).ok());
    EXPECT_NEAR(status.devices(0).memory().weights(), planned, 0.03 * planned) << format;
    v1::GenerateRequest request;
    request.set_prompt("In the beginning God created the");
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stop()->set_max_tokens(4);
    v1::GenerateResponse response;
    const grpc::Status generated = v1::Generation::NewStub(daemon.Channel())->Generate(&call, request, &response);
    ASSERT_TRUE(generated.ok()) << generated.error_message();
    EXPECT_THAT(response.choices(0).text(), HasSubstr("heaven")) << format;
    daemon.Signal(SIGTERM);
    EXPECT_EQ(daemon.Wait(), 0);
    if (format == "int4") {
      EXPECT_THAT(
          table,
          HasSubstr("Weights: int4 in groups of 32, the head in int8; in bf16: model.layers.#.input_layernorm, "));
      EXPECT_THAT(daemon.Err(), HasSubstr("int4 in groups of 32, the head in int8"));
    }
  }
}

TEST(Quantize, IsPlannedAndRefusedBeforeAnythingIsLoaded) {
  ProgramResult result = RunCausewayd({"plan", "--model", kKjv, "--quantize", "int8", "--format", "json"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\"quantization\": \"int8 by channel\""));
  EXPECT_THAT(result.out, HasSubstr("model.layers.#.input_layernorm"));
  result = RunCausewayd({"plan", "--model", kKjv, "--quantize", "int3"});
  EXPECT_EQ(result.status, 64);
  EXPECT_THAT(result.err, HasSubstr("none, int8, int4, int4:32, int4:64"));
  result = RunCausewayd({"plan", "--model", CAUSEWAY_SOURCE_DIR "/tests/golden/quantized/awq", "--quantize", "int8"});
  EXPECT_NE(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr("quantized already (int4 in groups of 32 (awq)); expected none"));
}

}  // namespace
}  // namespace causeway
