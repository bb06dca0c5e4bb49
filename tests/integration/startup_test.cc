// Tests how causewayd starts, refuses to start, and stops.
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;
using grpc::health::v1::HealthCheckResponse;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = (fs::path(::testing::TempDir()) / name).string();
  std::ofstream(path) << text;
  return path;
}

TEST(CommandLine, MistakesHaveTheirExitStatus) {
  ProgramResult result = RunCausewayd({"serve", "--modle", kModel});
  EXPECT_EQ(result.status, 64);
  EXPECT_THAT(result.err, StartsWith("causewayd: unknown flag --modle, did you mean --model?"));
  EXPECT_EQ(RunCausewayd({"serv"}).status, 64);
  EXPECT_EQ(RunCausewayd({}).status, 64);
  EXPECT_EQ(RunCausewayd({"serve", "--max-num-seqs", "0"}).status, 64);
  EXPECT_EQ(RunCausewayd({"bench", "--model", kModel, "--batch", "0"}).status, 64);
  for (const char* flag : {"--max-model-len", "--max-num-seqs", "--kv-cache"}) {
    result = RunCausewayd({"bench", "--model", kModel, flag, "64"});
    EXPECT_EQ(result.status, 64) << flag;
    EXPECT_THAT(result.err, StartsWith(absl::StrCat("causewayd: ", flag, ": bench sets this itself\n")));
  }
  result = RunCausewayd({"serve", "--help"});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.out, HasSubstr("--max-num-batched-tokens TOKENS"));
  EXPECT_THAT(RunCausewayd({"--version"}).out, StartsWith("causewayd 0."));
}

TEST(Configuration, MistakesExitWith78AndSayWhere) {
  const auto fails = [](const std::string& text, const std::string& message) {
    const std::string file = WriteFile("wrong.yaml", text);
    const ProgramResult result = RunCausewayd({"serve", "--config", file});
    EXPECT_EQ(result.status, 78) << result.err;
    EXPECT_THAT(result.err, HasSubstr(absl::StrCat(file, message)));
  };
  fails("model:\n  path: x\n  nmae: y\n", ":3: model.nmae: no such field, did you mean name?");
  fails("model:\n  path: x\nbatching:\n  max_num_seqs: many\n",
        ":4: batching.max_num_seqs: expected a whole number in [1, 4096], got \"many\"");
  fails("model:\n  path: x\nbatching:\n  max_num_seqs: 5000\n",
        ":4: batching.max_num_seqs: expected a whole number in [1, 4096], got \"5000\"");
  fails("model:\n  path: x\nplacement:\n  max_memory: 40G\n", ":4: placement.max_memory: ");
  fails("model:\n  path: x\nserver:\n  listen: nowhere\n", ":4: server.listen: expected HOST:PORT");
  ProgramResult result = RunCausewayd({"serve", "--config", "/nonexistent.yaml"});
  EXPECT_EQ(result.status, 78);
  EXPECT_THAT(result.err, HasSubstr("/nonexistent.yaml: cannot be read"));
  result = RunCausewayd({"serve", "--model", kModel}, {{"CAUSEWAY_BATCHING_MAX_NUM_SEQS", "none"}});
  EXPECT_EQ(result.status, 78);
  EXPECT_THAT(result.err, HasSubstr("environment variable CAUSEWAY_BATCHING_MAX_NUM_SEQS: expected a whole number"));
}

TEST(Plan, IsPrintedWithoutLoading) {
  ProgramResult result =
      RunCausewayd({"plan", "--model", kModel, "--devices", "simulated:2x256MiB", "--device-map", "balanced"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("simulated:1"));
  result = RunCausewayd({"plan", "--model", kModel, "--format", "json"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(nlohmann::json::parse(result.out).contains("devices"));
  result = RunCausewayd({"plan", "--model", kModel, "--devices", "simulated:1x1MiB"});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err, "");
  EXPECT_EQ(RunCausewayd({"plan", "--model", "/nonexistent/model"}).status, 1);
  // `plan` refuses what `serve` could not run.
  result = RunCausewayd({"plan", "--model", kModel, "--max-num-seqs", "100", "--max-num-batched-tokens", "10"});
  EXPECT_EQ(result.status, 78);
  EXPECT_THAT(result.err, HasSubstr("max_num_batched_tokens is 10; expected at least max_num_seqs, 100"));
  EXPECT_THAT(RunCausewayd({"plan", "--model", kModel, "--max-model-len", "1"}).err,
              HasSubstr("max_model_len is 1; expected 2 to"));
}

TEST(Plan, CanBeMadeForDevicesThatAreNotThere) {
  const ProgramResult plan = RunCausewayd({"plan", "--model", kModel, "--devices", "2xL4,1xA6000", "--format", "json"});
  EXPECT_EQ(plan.status, 0) << plan.err;
  EXPECT_EQ(nlohmann::json::parse(plan.out).at("devices").at(2).at("model"), "A6000");
  const ProgramResult cpu = RunCausewayd({"plan", "--model", kModel, "--devices", "cpu:256GB"});
  EXPECT_EQ(cpu.status, 0) << cpu.err;
  EXPECT_THAT(cpu.out, AllOf(HasSubstr("214.6 GiB"), Not(HasSubstr("Processors"))));
  for (const char* devices : {"2xL4", "cpu:256GB", "2xL4,cpu:256GB"}) {
    const ProgramResult serve = RunCausewayd({"serve", "--model", kModel, "--devices", devices});
    EXPECT_EQ(serve.status, 78) << devices;
    EXPECT_THAT(serve.err, HasSubstr("name some that are at hand"));
  }
}

TEST(Graph, IsPrintedAsTableJsonAndDot) {
  EXPECT_THAT(RunCausewayd({"graph", "--model", kModel}).out, HasSubstr("total of 9 nodes"));
  const ProgramResult json =
      RunCausewayd({"graph", "--model", kModel, "--stages", "3", "--objective", "all", "--format", "json"});
  EXPECT_EQ(json.status, 0) << json.err;
  EXPECT_EQ(nlohmann::json::parse(json.out).at("partitions").size(), 4u);
  EXPECT_THAT(RunCausewayd({"graph", "--model", kModel, "--format", "dot"}).out, StartsWith("digraph"));
  const ProgramResult wrong = RunCausewayd({"graph", "--model", kModel, "--stages", "9"});
  EXPECT_EQ(wrong.status, 78);
  EXPECT_THAT(wrong.err, HasSubstr("1 to 6 stages with objective uniform"));
}

TEST(Doctor, TellsByItsExitStatus) {
  const ProgramResult ready =
      RunCausewayd({"doctor", "--model", kModel, "--listen", "127.0.0.1:0", "--http", "", "--format", "json"});
  EXPECT_EQ(ready.status, 0) << ready.out;
  EXPECT_EQ(nlohmann::json::parse(ready.out).at("ready"), true);
  const ProgramResult not_ready = RunCausewayd(
      {"doctor", "--model", kModel, "--listen", "127.0.0.1:0", "--http", "", "--devices", "simulated:1x2MiB"});
  EXPECT_EQ(not_ready.status, 1);
  EXPECT_THAT(not_ready.out, HasSubstr("Not ready: 1 problem."));
  const ProgramResult no_folder =
      RunCausewayd({"doctor", "--listen", "127.0.0.1:0", "--http", "", "--offload-folder", "/proc/no/such"});
  EXPECT_EQ(no_folder.status, 1);
  EXPECT_THAT(no_folder.out, HasSubstr("/proc/no/such is not there"));
  EXPECT_THAT(no_folder.out, HasSubstr("mkdir -p /proc/no/such"));
}

TEST(Bench, PrintsOneObjectARow) {
  const ProgramResult result = RunCausewayd(
      {"bench", "--model", kModel, "--batch", "1,3", "--prompt", "20", "--generate", "4", "--format", "json"});
  ASSERT_EQ(result.status, 0) << result.err;
  std::istringstream lines(result.out);
  std::string line;
  std::vector<int64_t> batches;
  while (std::getline(lines, line)) {
    const auto row = nlohmann::json::parse(line);
    batches.push_back(row.at("batch"));
    EXPECT_EQ(row.at("prompt_tokens"), 20);
    EXPECT_EQ(row.at("generated_tokens"), 4);
    EXPECT_GT(row.at("prefill_tokens_per_second"), 0);
    EXPECT_GT(row.at("decode_tokens_per_second"), 0);
    EXPECT_GT(row.at("weight_bytes"), 1'000'000);
    EXPECT_GT(row.at("bandwidth_bytes_per_second"), 0);
    EXPECT_EQ(row.at("dtype"), "bf16");
    EXPECT_EQ(row.at("devices"), "cpu");
  }
  EXPECT_THAT(batches, ::testing::ElementsAre(1, 3));
}

TEST(Bench, SizesTheModelByItsCases) {
  // The file's fields for sequences and cache are for serving.
  const std::string file =
      WriteFile("bench.yaml", "batching:\n  max_model_len: 64\n  max_num_seqs: 1\n  kv_cache: 64\n");
  ProgramResult result = RunCausewayd(
      {"bench", "--config", file, "--model", kModel, "--batch", "2", "--prompt", "100", "--generate", "2"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("of bandwidth"));
  result = RunCausewayd({"bench", "--model", kModel, "--batch", "1", "--prompt", "128", "--generate", "100000"});
  EXPECT_EQ(result.status, 78);
  EXPECT_THAT(result.err, HasSubstr("--prompt and --generate: the longest case needs 100128 tokens in all"));
  EXPECT_EQ(result.out, "");
}

TEST(Bench, LoadingStandsBesideReadingTheFilesAlone) {
  for (const char* from : {"warm", "cold"}) {
    ProgramResult result = RunCausewayd({"bench", "--model", kModel, "--load", from, "--format", "json"});
    ASSERT_EQ(result.status, 0) << result.err;
    const auto row = nlohmann::json::parse(result.out);
    EXPECT_GT(row.at("bytes"), 10'000'000);
    EXPECT_LE(row.at("bytes"), fs::file_size(fs::path(kModel) / "model.safetensors"));
    EXPECT_NEAR(row.at("bytes_per_second"), row.at("bytes").get<double>() / row.at("seconds").get<double>(), 1);
    EXPECT_GT(row.at("files_bytes_per_second"), 0);
    EXPECT_GE(row.at("resident_bytes_peak"),
              row.at("resident_bytes_before").get<int64_t>() + row.at("weight_bytes").get<int64_t>() / 2);
  }
  const ProgramResult result = RunCausewayd({"bench", "--model", kModel, "--load", "hot"});
  EXPECT_EQ(result.status, 64);
  EXPECT_THAT(result.err, HasSubstr("--load: expected warm or cold, got \"hot\""));
}

TEST(Startup, TheLogOfAProgramHasTheLoadingsOutcomeAlone) {
  DaemonProcess daemon({"--model", kModel, "--log-format", "json"});
  ASSERT_TRUE(daemon.WaitUntilServing());
  std::istringstream lines(daemon.Err());
  int loaded = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto event = nlohmann::json::parse(line);  // no bar in between
    EXPECT_NE(event.at("event"), "loading");
    if (event.at("event") != "loaded") continue;
    ++loaded;
    EXPECT_GT(event.at("bytes"), 10'000'000);
    EXPECT_GT(event.at("gb_per_second"), 0);
    EXPECT_LE(event.at("weights_seconds"), event.at("seconds"));
  }
  EXPECT_EQ(loaded, 1);
}

TEST(Startup, APortInUseIsNamed) {
  DaemonProcess first({"--model", kModel});
  ASSERT_TRUE(first.WaitUntilServing());
  DaemonProcess second({"--model", kModel, "--listen", first.grpc(), "--ports-file", first.ports_file()});
  EXPECT_EQ(second.Wait(), 1);
  const std::string port = first.grpc().substr(first.grpc().rfind(':') + 1);
  EXPECT_THAT(second.Err(), HasSubstr(absl::StrCat("cannot listen for gRPC at ", first.grpc(), ": port ", port,
                                                   " is in use by another program")));
  DaemonProcess third({"--model", kModel, "--http", first.http()});
  EXPECT_EQ(third.Wait(), 1);
  EXPECT_THAT(third.Err(), HasSubstr(absl::StrCat("cannot listen for HTTP at ", first.http())));
  EXPECT_EQ(first.Get("/readyz").first, 200);
  EXPECT_TRUE(fs::exists(first.ports_file()));  // the second one, which did not start, did not touch it
}

TEST(Startup, OnePortForBothIsNoOtherProgram) {
  DaemonProcess one({"--model", kModel, "--listen", "localhost:47124", "--http", "127.0.0.1:47124"});
  EXPECT_EQ(one.Wait(), 78);
  EXPECT_THAT(one.Err(), HasSubstr("--http: expected another port than that of server.listen, localhost:47124, got "
                                   "127.0.0.1:47124"));
}

TEST(Startup, AMistakeIsSaidBeforeLoading) {
  DaemonProcess nowhere({"--model", kModel, "--ports-file", "/nonexistent/ports.json"});
  EXPECT_EQ(nowhere.Wait(), 1);
  EXPECT_THAT(nowhere.Err(),
              HasSubstr("cannot write the ports file /nonexistent/ports.json: No such file or directory"));
  EXPECT_THAT(nowhere.Err(), Not(HasSubstr("loaded")));
  const fs::path pipe = fs::path(::testing::TempDir()) / absl::StrCat("ports-", getpid());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  DaemonProcess no_file({"--model", kModel, "--ports-file", pipe});
  EXPECT_EQ(no_file.Wait(), 78);
  EXPECT_THAT(no_file.Err(), HasSubstr("is a folder or a device; expected a file's name"));
  EXPECT_TRUE(fs::is_fifo(pipe));
  fs::remove(pipe);
  DaemonProcess no_cache({"--model", kModel, "--kv-cache", "0"});
  EXPECT_EQ(no_cache.Wait(), 78);
  EXPECT_THAT(no_cache.Err(), HasSubstr("--kv-cache: serving needs a KV cache, got 0 tokens"));
  EXPECT_THAT(no_cache.Err(), Not(HasSubstr("listening")));
}

// Loading waits until somebody writes to the pipe that the chat template is read from.
class SlowModel {
 public:
  SlowModel() : pipe_((fs::path(::testing::TempDir()) / absl::StrCat("slow-", getpid(), ".jinja")).string()) {
    fs::remove(pipe_);
    EXPECT_EQ(mkfifo(pipe_.c_str(), 0600), 0);
  }
  ~SlowModel() { fs::remove(pipe_); }
  std::vector<std::string> flags() const { return {"--model", kModel, "--chat-template", pipe_}; }
  // Blocks until the daemon reads.
  void LetLoad() const { std::ofstream(pipe_) << "{{ messages[0].content }}"; }

 private:
  const std::string pipe_;
};

TEST(Startup, TheListenerIsUpWhileTheModelLoads) {
  const SlowModel model;
  DaemonProcess daemon(model.flags());
  ASSERT_TRUE(daemon.WaitUntilListening());
  EXPECT_FALSE(fs::exists(daemon.ports_file()));
  EXPECT_EQ(daemon.Get("/healthz").first, 200);
  EXPECT_EQ(daemon.Get("/readyz"), std::make_pair(503, std::string("loading\n")));
  EXPECT_THAT(daemon.Get("/metrics").second, HasSubstr("causeway_build_info"));
  auto health = grpc::health::v1::Health::NewStub(daemon.Channel());
  grpc::ClientContext watch_call;
  auto watch = health->Watch(&watch_call, {});
  HealthCheckResponse seen;
  ASSERT_TRUE(watch->Read(&seen));
  EXPECT_EQ(seen.status(), HealthCheckResponse::NOT_SERVING);
  {
    grpc::ClientContext call;
    v1::GenerateRequest request;
    request.set_prompt("In");
    v1::GenerateResponse response;
    const grpc::Status status = v1::Generation::NewStub(daemon.Channel())->Generate(&call, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(status.error_message(), HasSubstr("loading"));
  }
  auto admin = v1::Admin::NewStub(daemon.Channel());
  {
    grpc::ClientContext status_call, plan_call, model_call;
    v1::GetStatusResponse status;
    ASSERT_TRUE(admin->GetStatus(&status_call, {}, &status).ok());
    EXPECT_EQ(status.state(), v1::LOADING);
    v1::GetPlanResponse plan;
    ASSERT_TRUE(admin->GetPlan(&plan_call, {}, &plan).ok());
    EXPECT_GT(plan.kv_blocks(), 0);
    v1::GetModelResponse unused;
    EXPECT_EQ(admin->GetModel(&model_call, {}, &unused).error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  model.LetLoad();
  ASSERT_TRUE(watch->Read(&seen));
  EXPECT_EQ(seen.status(), HealthCheckResponse::SERVING);
  ASSERT_TRUE(daemon.WaitUntilServing());
  EXPECT_EQ(daemon.Get("/readyz").first, 200);
  EXPECT_THAT(daemon.Out(), HasSubstr(absl::StrCat(": gRPC ", daemon.grpc(), ", HTTP ", daemon.http(), "\n")));
  daemon.Signal(SIGTERM);
  ASSERT_TRUE(watch->Read(&seen));
  EXPECT_EQ(seen.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(daemon.Wait(), 0);
  EXPECT_FALSE(fs::exists(daemon.ports_file()));
}

TEST(Startup, ASignalWhileLoadingEndsIt) {
  const SlowModel model;
  DaemonProcess daemon(model.flags());
  ASSERT_TRUE(daemon.WaitUntilListening());
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(absl::Seconds(20)), 0);
}

TEST(Startup, ADrainWhileLoadingIsAnsweredFirst) {
  const SlowModel model;
  DaemonProcess daemon(model.flags());
  ASSERT_TRUE(daemon.WaitUntilListening());
  grpc::ClientContext call;
  v1::DrainResponse response;
  const grpc::Status status = v1::Admin::NewStub(daemon.Channel())->Drain(&call, {}, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(daemon.Wait(absl::Seconds(20)), 0);
}

TEST(Startup, ABrokenCheckpointIsSaidBeforeListening) {
  const fs::path folder = fs::path(::testing::TempDir()) / absl::StrCat("broken-", getpid());
  fs::create_directory(folder);
  for (const char* name : {"config.json", "tokenizer.json"}) fs::create_symlink(fs::path(kModel) / name, folder / name);
  std::ofstream(folder / "model.safetensors") << "not a checkpoint";
  DaemonProcess daemon({"--model", folder.string()});
  EXPECT_EQ(daemon.Wait(), 78);  // a service manager need not try again
  EXPECT_THAT(daemon.Err(), HasSubstr("model.safetensors"));
  fs::remove_all(folder);
}

// A stream that runs for a long time: 16 choices up to the end of the context.
class Stopping : public ::testing::Test {
 protected:
  void Start(const std::vector<std::string>& flags) {
    std::vector<std::string> all = {"--model", kModel};
    all.insert(all.end(), flags.begin(), flags.end());
    daemon_ = std::make_unique<DaemonProcess>(all);
    ASSERT_TRUE(daemon_->WaitUntilServing());
    stub_ = v1::Generation::NewStub(daemon_->Channel());
  }
  void Open(int64_t max_tokens, int n) {
    v1::GenerateRequest request;
    request.set_prompt("In the beginning");
    request.mutable_sampling()->set_n(n);
    request.mutable_stop()->set_ignore_eos(true);
    request.mutable_stop()->set_max_tokens(max_tokens);
    stream_ = stub_->GenerateStream(&call_, request);
    v1::GenerateStreamResponse event;
    do {
      ASSERT_TRUE(stream_->Read(&event));
    } while (!event.has_delta());
  }
  // Returns the rest of the stream: its last event, and its status.
  std::pair<v1::GenerateStreamResponse, grpc::Status> Rest() {
    v1::GenerateStreamResponse event, last;
    while (stream_->Read(&event)) last = event;
    return {last, stream_->Finish()};
  }
  void WaitUntilDraining() {
    auto health = grpc::health::v1::Health::NewStub(daemon_->Channel());
    grpc::ClientContext call;
    auto watch = health->Watch(&call, {});
    HealthCheckResponse seen;
    do {
      ASSERT_TRUE(watch->Read(&seen));
    } while (seen.status() == HealthCheckResponse::SERVING);
    call.TryCancel();
  }

  std::unique_ptr<DaemonProcess> daemon_;
  std::unique_ptr<v1::Generation::Stub> stub_;
  grpc::ClientContext call_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>> stream_;
};

TEST_F(Stopping, DrainsOnSigterm) {
  Start({"--drain-seconds", "300"});
  Open(400, 4);
  daemon_->Signal(SIGTERM);
  WaitUntilDraining();
  EXPECT_EQ(daemon_->Get("/readyz"), std::make_pair(503, std::string("draining\n")));
  grpc::ClientContext call;
  v1::GenerateRequest request;
  request.set_prompt("And");
  v1::GenerateResponse response;
  EXPECT_EQ(stub_->Generate(&call, request, &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  const auto [last, status] = Rest();
  EXPECT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(last.finished().choices_size(), 4);
  EXPECT_EQ(last.finished().choices(0).finish_reason(), v1::LENGTH);
  EXPECT_EQ(last.finished().usage().generated_tokens(), 1600);
  EXPECT_EQ(daemon_->Wait(), 0);
}

TEST_F(Stopping, AdminDrainDoesTheSame) {
  Start({});
  auto admin = v1::Admin::NewStub(daemon_->Channel());
  grpc::ClientContext call;
  v1::DrainResponse response;
  EXPECT_TRUE(admin->Drain(&call, {}, &response).ok());
  EXPECT_EQ(daemon_->Wait(), 0);
}

TEST_F(Stopping, TheBudgetCancelsWhatIsLeft) {
  Start({"--drain-seconds", "0"});
  Open(2000, 16);
  daemon_->Signal(SIGINT);
  const auto [last, status] = Rest();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(last.finished().choices(0).finish_reason(), v1::CANCELLED);
  EXPECT_EQ(daemon_->Wait(), 0);
}

TEST_F(Stopping, ASecondSignalStopsAtOnce) {
  Start({"--drain-seconds", "300"});
  Open(2000, 16);
  daemon_->Signal(SIGTERM);
  WaitUntilDraining();
  daemon_->Signal(SIGTERM);
  EXPECT_EQ(daemon_->Wait(absl::Seconds(10)), 128 + SIGTERM);
  EXPECT_EQ(Rest().second.error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace causeway
