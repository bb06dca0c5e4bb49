// Compares planned and measured memory of a real daemon under load, by device and owner. Also asks it for plans for
// other devices.
#include <signal.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";

class Memory : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    daemon_ = new DaemonProcess({"--model", kModel, "--devices", "simulated:4x64MiB", "--max-num-seqs", "16",
                                 "--max-num-batched-tokens", "512", "--kv-cache", "8192"});
    ASSERT_TRUE(daemon_->WaitUntilServing());
    admin_ = v1::Admin::NewStub(daemon_->Channel()).release();
  }
  static void TearDownTestSuite() {
    daemon_->Signal(SIGTERM);
    EXPECT_EQ(daemon_->Wait(), 0);
    delete admin_;
    delete daemon_;
  }
  static ProgramResult Client(Arguments arguments) {
    return RunProgram("causeway", arguments, {{"CAUSEWAY_SERVER", daemon_->grpc()}});
  }
  static grpc::Status Plan(const v1::GetPlanRequest& request, v1::GetPlanResponse* response) {
    grpc::ClientContext call;
    return admin_->GetPlan(&call, request, response);
  }
  static grpc::Status PlanError(const v1::GetPlanRequest& request) {
    v1::GetPlanResponse response;
    return Plan(request, &response);
  }

  static DaemonProcess* daemon_;
  static v1::Admin::Stub* admin_;
};
DaemonProcess* Memory::daemon_ = nullptr;
v1::Admin::Stub* Memory::admin_ = nullptr;

TEST_F(Memory, IsWhatWasPlannedWhileItWorks) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> load;
  for (int i = 0; i < 16; ++i) {
    load.emplace_back([&stop, i] {
      const auto generation = v1::Generation::NewStub(daemon_->Channel());
      while (!stop) {
        v1::GenerateRequest request;
        for (int t = 0; t < 40 * (i + 1); ++t) request.mutable_tokens()->add_ids(6 + (t * (i + 3)) % 4000);
        request.mutable_stop()->set_max_tokens(24);
        request.mutable_stop()->set_ignore_eos(true);
        grpc::ClientContext call;
        v1::GenerateResponse response;
        const grpc::Status status = generation->Generate(&call, request, &response);
        EXPECT_TRUE(status.ok()) << status.error_message();
      }
    });
  }
  grpc::ClientContext call;
  v1::WatchStatusRequest watch;
  watch.set_interval_seconds(0.1);
  auto stream = admin_->WatchStatus(&call, watch);
  v1::GetStatusResponse status;
  int busy = 0;
  while (busy < 10 && stream->Read(&status)) {
    busy += status.requests_running() >= 4;
    int used = 0;
    for (const v1::DeviceStatus& device : status.devices()) {
      if (device.holds().empty()) continue;
      ++used;
      const v1::DeviceMemory& memory = device.memory();
      const v1::PlannedMemory& planned = device.planned();
      EXPECT_NEAR(memory.weights(), planned.weights(), 0.03 * planned.weights()) << device.name();
      EXPECT_NEAR(memory.kv_cache(), planned.kv_cache(), 0.03 * planned.kv_cache()) << device.name();
      EXPECT_GT(memory.activations_peak(), 0) << device.name();
      EXPECT_LE(memory.activations_peak() + memory.workspace(), planned.activations()) << device.name();
      EXPECT_EQ(memory.weights() + memory.kv_cache() + memory.workspace() + memory.activations_peak() +
                    planned.reserve() + device.free_bytes(),
                device.budget_bytes())
          << device.name();
    }
    EXPECT_EQ(used, 4);
  }
  EXPECT_EQ(busy, 10);
  call.TryCancel();
  stream->Finish();
  const std::map<std::string, double> metrics = daemon_->Metrics();
  int errors = 0;
  for (const auto& [sample, value] : metrics) {
    if (sample.rfind("causeway_plan_memory_error_bytes{", 0) != 0) continue;
    ++errors;
    const size_t owner = sample.find("owner=\"") + 7;
    const std::string name = sample.substr(owner, sample.find('"', owner) - owner);
    const size_t device = sample.find("device=\"") + 8;
    for (const v1::DeviceStatus& d : status.devices()) {
      if (sample.compare(device, d.name().size() + 1, d.name() + "\"") != 0) continue;
      const int64_t planned = name == "weights"    ? d.planned().weights()
                              : name == "kv_cache" ? d.planned().kv_cache()
                                                   : d.planned().activations();
      EXPECT_LE(std::abs(value), (name == "activations" ? 1 : 0.03) * static_cast<double>(planned)) << sample;
    }
  }
  EXPECT_EQ(errors, 4 * 3);

  // The same for people, while it works.
  const ProgramResult text = Client({"status"});
  EXPECT_EQ(text.status, 0) << text.err;
  for (const char* part : {"simulated:0  used", "planned", "embeddings, ", "head", "reserve", "process "})
    EXPECT_THAT(text.out, HasSubstr(part));
  EXPECT_THAT(text.out, Not(HasSubstr("\033")));
  // On a terminal it is drawn in place.
  const ProgramResult terminal = RunProgram("/usr/bin/script",
                                            {"-qec",
                                             absl::StrCat("timeout 2 ", CAUSEWAY_BINARY_DIR, "/bin/causeway --server ",
                                                          daemon_->grpc(), " status --watch --interval 0.2"),
                                             "/dev/null"},
                                            {{"TERM", "xterm"}});
  EXPECT_EQ(terminal.out.find("\033[2J"), terminal.out.rfind("\033[2J")) << "cleared once";
  EXPECT_NE(terminal.out.find("\033[H"), terminal.out.rfind("\033[H")) << "drawn more than once";
  EXPECT_THAT(terminal.out, HasSubstr("simulated:3"));
  stop = true;
  for (std::thread& thread : load) thread.join();
}

TEST_F(Memory, PlansForOtherDevicesAreThoseOfThePlanCommand) {
  const std::vector<Arguments> cases = {
      {"--devices", "2xH100-80GB"},
      {"--devices", "8xH100-80GB", "--device-map", "balanced", "--dtype", "fp32"},
      {"--devices", "simulated:3x48MiB", "--kv-cache", "4096", "--max-model-len", "1024"},
      {"--devices", "simulated:2x64MiB", "--device-map",
       R"({"model.embed_tokens": 0, "model.layers": 1, "model.norm": 1, "model.rotary_emb": 1, "lm_head": 0})"},
      {"--devices", "simulated:2x64MiB", "--max-memory", "0:20MiB,1:64MiB", "--quantize", "int8", "--kv-cache", "4MiB",
       "--kv-cache-dtype", "int8"},
  };
  for (const Arguments& flags : cases) {
    SCOPED_TRACE(absl::StrJoin(flags, " "));
    // Where nothing else is said, the daemon's own configuration holds.
    Arguments command = {"plan", "--model",  kModel, "--max-num-seqs", "16", "--max-num-batched-tokens",
                         "512",  "--format", "json"};
    if (!std::count(flags.begin(), flags.end(), "--kv-cache")) command.insert(command.end(), {"--kv-cache", "8192"});
    command.insert(command.end(), flags.begin(), flags.end());
    Arguments asked = {"plan", "--format", "json"};
    asked.insert(asked.end(), flags.begin(), flags.end());
    const ProgramResult expected = RunCausewayd(command), answer = Client(asked);
    ASSERT_EQ(expected.status, 0) << expected.err;
    EXPECT_EQ(answer.status, 0) << answer.err;
    EXPECT_EQ(answer.out, expected.out);
  }
  // A map may be a file of the caller's machine.
  const std::string path = ::testing::TempDir() + "memory_test_map.json";
  std::ofstream(path) << R"({"": "1"})";
  const ProgramResult map = Client({"plan", "--device-map", path});
  EXPECT_EQ(map.status, 0) << map.err;
  EXPECT_THAT(map.out, HasSubstr("device_map custom"));
  // Without any request, the answer is the plan that is served.
  const Json served = Json::parse(Client({"plan", "--format", "json"}).out);
  EXPECT_EQ(served.at("devices").size(), 4u);
  EXPECT_EQ(served.at("kv_cache").at("tokens"), 8192);
  // These are the served devices, before anything was taken from them.
  v1::GetPlanRequest dtype;
  v1::GetPlanResponse plan;
  dtype.set_dtype("fp32");
  ASSERT_TRUE(Plan(dtype, &plan).ok());
  EXPECT_EQ(plan.devices_size(), 4);
  EXPECT_EQ(plan.devices(0).name(), "simulated:0");
}

TEST_F(Memory, PlansThatCannotBeSayWhy) {
  using Request = v1::GetPlanRequest;
  const auto expect = [](grpc::StatusCode code, const std::string& message, const std::function<void(Request*)>& set) {
    Request request;
    set(&request);
    const grpc::Status status = PlanError(request);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  };
  const auto invalid = grpc::StatusCode::INVALID_ARGUMENT;
  expect(grpc::StatusCode::FAILED_PRECONDITION, "the model does not fit with device_map auto: simulated:0 is",
         [](Request* r) { r->set_devices("simulated:2x12MiB"); });
  expect(invalid, "\"H101\" is not understood", [](Request* r) { r->set_devices("2xH101"); });
  expect(invalid, "65 devices, expected at most 64", [](Request* r) { r->set_devices("65xH100-80GB"); });
  expect(invalid, "dtype: expected one of", [](Request* r) { r->set_dtype("int3"); });
  expect(invalid, "max_num_seqs: expected a whole number in [1, 4096], got \"0\"",
         [](Request* r) { r->set_max_num_seqs(0); });
  expect(invalid, "max_memory", [](Request* r) { r->set_max_memory("40G"); });
  expect(invalid, "kv_cache: expected tokens", [](Request* r) { r->set_kv_cache("2M"); });
  expect(invalid, "device_map is \"/etc/map.json\", a file's name; expected the map itself as JSON",
         [](Request* r) { r->set_device_map("/etc/map.json"); });
  expect(invalid, "device_map: ", [](Request* r) { r->set_device_map("{\"model\""); });
  const ProgramResult program = Client({"plan", "--devices", "simulated:2x12MiB"});
  EXPECT_EQ(program.status, 1);
  EXPECT_THAT(program.err, HasSubstr("the model does not fit"));
  EXPECT_EQ(Client({"plan", "--device-map", "none.json"}).status, 64);
  EXPECT_EQ(Client({"plan", "--max-num-seqs", "x"}).status, 64);
}

}  // namespace
}  // namespace causeway
