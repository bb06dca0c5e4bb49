#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <nlohmann/json.hpp>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/telemetry/device_reports.h"
#include "server/telemetry/gpu_families.h"
#include "server/telemetry/http_server.h"
#include "server/telemetry/log.h"
#include "server/telemetry/metrics.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// An engine of two devices that has done some work.
class StatsEngine : public Engine {
 public:
  StatsEngine() {
    for (int i = 0; i < 2; ++i) {
      DevicePlan device;
      device.device = {DeviceKind::kSimulated, i,       "simulated:" + std::to_string(i),
                       "a \"processor\"",      1 << 20, 1 << 20};
      device.units = {i};
      device.weights = 1000;
      device.kv_cache = 500;
      device.activations = 100;
      model_.plan.devices.push_back(device);
      model_.plan.segments.push_back({{i, i}, {i}});
      DeviceStats stats;
      stats.memory = {.weights = 1000, .kv_cache = 480, .activations = 10, .activations_peak = 90, .workspace = 5};
      stats.busy_seconds = 1.5;
      stats.prefill_tokens = 100 + i;
      stats_.executor.devices.push_back(stats);
    }
    model_.plan.kv_bytes_per_token = 68;
    model_.plan.options.kv_dtype = DType::kI8;
    stats_.executor.experts[1] = {.steps = 2, .busy = 3, .busiest = 7, .tokens = {1, 7, 0}};
    stats_.executor.transfers.push_back({"simulated:0", "simulated:1", 4096});
    stats_.requests_running = 2;
    stats_.scheduler.blocks_total = 100;
    stats_.scheduler.blocks_used = 30;
    stats_.scheduler.blocks_cached = 20;
    stats_.last_step = absl::FromUnixSeconds(1234);
  }
  absl::StatusOr<RequestHandle> Submit(GenerationRequest, std::shared_ptr<TokenSink>) override { return 1; }
  absl::StatusOr<std::shared_ptr<const GrammarMatcher>> CompileGrammar(const GrammarSource&) override {
    return absl::InvalidArgumentError("no tokenizer");
  }
  void Cancel(RequestHandle) override {}
  absl::Status Cancel(const std::string&) override { return absl::OkStatus(); }
  void SetLimits(int64_t, int64_t) override {}
  absl::Status Restore(int) override { return absl::UnimplementedError("no replicas"); }
  bool Drain(absl::Time) override { return true; }
  EngineStats Stats() const override { return stats_; }
  EngineStats& stats() { return stats_; }
  const PlacedModel& model() const override { return model_; }
  const Tokenizer* tokenizer() const override { return nullptr; }
  const ChatTemplate* chat_template() const override { return nullptr; }

 private:
  PlacedModel model_;
  EngineStats stats_;
};

TEST(Log, WritesLinesForPeopleAndJson) {
  EXPECT_EQ(FormatLogText("request ended", {{"request_id", "r-1"}, {"tokens", 5}, {"why", "two words"}, {"none", ""}}),
            "request ended request_id=r-1 tokens=5 why=\"two words\"");
  // A value cannot forge a second line or a second field.
  EXPECT_EQ(FormatLogText("e", {{"id", "a\nlevel=info b=c"}}), "e id=\"a\\nlevel=info b=c\"");
  const std::string json =
      "{" + FormatLogJson("e", {{"id", "a\"\n"}, {"n", 1.5}, {"bad", 1.0 / 0.0}, {"utf8", "\xff"}}) + "}";
  const auto parsed = nlohmann::json::parse(json);
  EXPECT_EQ(parsed["id"], "a\"\n");
  EXPECT_EQ(parsed["n"], 1.5);
  EXPECT_EQ(parsed["bad"], "inf");
}

class MetricsTest : public ::testing::Test {
 protected:
  MetricsTest() : metrics_("tiny", 256, "0.1.0", "cpu") {
    metrics_.OnStep({.seconds = 0.01, .tokens = 17, .prefill_tokens = 16, .sequences = 2});
    metrics_.OnStep({.seconds = 0.001, .tokens = 2, .prefill_tokens = 0, .sequences = 2});
    metrics_.OnAdmitted(0.001);
    metrics_.OnFirstToken(0.02);
    metrics_.OnInterToken(0.003);
    GenerationEnd end;
    end.prompt_tokens = 16;
    end.generated_tokens = 4;
    metrics_.OnEnd(end, 0.05);
    metrics_.CountOutcome(Outcome::kStop);
    metrics_.CountOutcome(Outcome::kRejected);
    metrics_.WatchEngine(&engine_);
  }
  StatsEngine engine_;
  Metrics metrics_;
};

TEST_F(MetricsTest, SaysWhatHappenedAndWhatStands) {
  const std::string text = metrics_.Scrape();
  for (const char* line : {
           "causeway_requests_total{model=\"tiny\",outcome=\"stop\"} 1\n",
           "causeway_requests_total{model=\"tiny\",outcome=\"rejected\"} 1\n",
           "causeway_requests_total{model=\"tiny\",outcome=\"error\"} 0\n",
           "causeway_prompt_tokens_total{model=\"tiny\"} 16\n",
           "causeway_step_duration_seconds_count{kind=\"prefill\",model=\"tiny\"} 1\n",
           "causeway_time_to_first_token_seconds_bucket{model=\"tiny\",le=\"0.02\"} 1\n",
           "causeway_requests_running{model=\"tiny\"} 2\n",
           "causeway_kv_cache_blocks{model=\"tiny\",state=\"free\"} 50\n",
           "causeway_kv_cache_bytes_per_token{model=\"tiny\",dtype=\"int8\"} 68\n",
           "causeway_last_step_timestamp_seconds{model=\"tiny\"} 1234\n",
           "causeway_device_memory_bytes{device=\"simulated:1\",device_name=\"a "
           "\\\"processor\\\"\",replica=\"0\",stage=\"1\",rank=\"0\",owner=\"kv_cache\"} 480\n",
           "causeway_plan_memory_error_bytes{device=\"simulated:0\",device_name=\"a "
           "\\\"processor\\\"\",replica=\"0\",stage=\"0\",rank=\"0\",owner=\"kv_cache\"} 20\n",
           "causeway_plan_memory_error_bytes{device=\"simulated:1\",device_name=\"a "
           "\\\"processor\\\"\",replica=\"0\",stage=\"1\",rank=\"0\",owner=\"activations\"} 5\n",
           "causeway_transfer_bytes_total{from=\"simulated:0\",to=\"simulated:1\"} 4096\n",
           "causeway_device_tokens_total{device=\"simulated:1\",device_name=\"a "
           "\\\"processor\\\"\",replica=\"0\",stage=\"1\",rank=\"0\",kind=\"prefill\"} "
           "101\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_GT(ResidentBytes(), 1 << 20);
  EXPECT_THAT(text, HasSubstr("owner=\"other\""));
  metrics_.WatchEngine(nullptr);
  EXPECT_THAT(metrics_.Scrape(), Not(HasSubstr("causeway_requests_running")));
}

TEST(DeviceReportsTest, HoldWhatIsPlannedAgainstWhatIsMeasured) {
  Plan plan;
  DevicePlan planned{.budget = 1000, .weights = 400, .kv_cache = 300, .activations = 100, .reserve = 50};
  planned.device.name = "simulated:0";
  planned.device.kind = DeviceKind::kSimulated;
  plan.devices = {planned, planned};
  ExecutorStats stats;
  stats.devices.emplace_back().memory = {
      .weights = 390, .kv_cache = 310, .activations = 20, .activations_peak = 60, .workspace = 10};
  const std::vector<DeviceReport> reports = ReportDevices(plan, stats);
  ASSERT_EQ(reports.size(), 3u) << "the process is in the CPU's memory, which is no device of the plan";
  EXPECT_EQ(reports[0].left.weights, 10);
  EXPECT_EQ(reports[0].left.kv_cache, -10);
  EXPECT_EQ(reports[0].left.activations, 30);
  EXPECT_EQ(reports[0].left.budget, 1000 - 50 - 390 - 310 - 70);
  EXPECT_FALSE(reports[0].other.has_value());
  EXPECT_EQ(reports[1].measured, nullptr) << "it is still loading";
  EXPECT_EQ(reports[2].name, "cpu");
  EXPECT_EQ(reports[2].planned, nullptr);
  EXPECT_GT(*reports[2].other, 1 << 20);

  plan.devices[1].device.kind = DeviceKind::kCpu;
  const std::vector<DeviceReport> with_cpu = ReportDevices(plan, stats);
  ASSERT_EQ(with_cpu.size(), 2u);
  EXPECT_FALSE(with_cpu[0].other.has_value());
  EXPECT_TRUE(with_cpu[1].other.has_value());
}

Device Gpu(const std::string& name, const std::string& uuid) {
  Device device;
  device.name = name;
  device.uuid = uuid;
  return device;
}

TEST(GpuReaderTest, AsksOfGpusAlone) {
  GpuReader reader([](const std::string& uuid) -> std::optional<GpuReading> {
    if (uuid == "unknown") return std::nullopt;
    return GpuReading{.uuid = "GPU-" + uuid};
  });
  const GpuReadings readings = reader.Read({Gpu("cpu", ""), Gpu("cuda:0", "1"), Gpu("cuda:1", "unknown")});
  ASSERT_EQ(readings.size(), 1u);
  EXPECT_EQ(readings.at("cuda:0").uuid, "GPU-1");
}

TEST(GpuReaderTest, AScrapeDoesNotWaitForADriverThatHangs) {
  absl::Notification asked, answer;
  GpuReader reader([&](const std::string&) {
    asked.Notify();
    answer.WaitForNotification();
    return GpuReading();
  });
  std::thread first([&] { EXPECT_EQ(reader.Read({Gpu("cuda:0", "1")}).size(), 1u); });
  asked.WaitForNotification();
  EXPECT_TRUE(reader.Read({Gpu("cuda:0", "1")}).empty());
  answer.Notify();
  first.join();
}

TEST(GpuFamiliesTest, WhatIsNotToldIsMissing) {
  std::vector<prometheus::MetricFamily> families;
  AppendGpus({{{{"device", "cuda:0"}}, {.uuid = "GPU-1", .utilization = 0}}}, families);
  ASSERT_EQ(families.size(), 2u);
  EXPECT_EQ(families[0].name, "causeway_device_info");
  EXPECT_EQ(families[1].name, "causeway_device_utilization_ratio");
}

TEST_F(MetricsTest, SaysHowTokensSpreadOverExperts) {
  const std::string text = metrics_.Scrape();
  for (const char* line : {
           "causeway_layer_experts{model=\"tiny\",layer=\"1\"} 3\n",
           "causeway_layer_expert_steps_total{model=\"tiny\",layer=\"1\"} 2\n",
           "causeway_layer_expert_tokens_total{model=\"tiny\",layer=\"1\"} 8\n",
           "causeway_layer_busiest_expert_tokens_total{model=\"tiny\",layer=\"1\"} 7\n",
           "causeway_layer_busy_experts_total{model=\"tiny\",layer=\"1\"} 3\n",
           "causeway_expert_tokens_total{model=\"tiny\",layer=\"1\",expert=\"0\"} 1\n",
           "causeway_expert_tokens_total{model=\"tiny\",layer=\"1\",expert=\"2\"} 0\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  // A large model's layers have no series for each expert; a model without experts has none of these metrics.
  for (int layer = 0; layer < 62; ++layer) engine_.stats().executor.experts[layer].tokens.resize(256);
  EXPECT_THAT(metrics_.Scrape(), HasSubstr("causeway_layer_experts{model=\"tiny\",layer=\"61\"} 256\n"));
  EXPECT_THAT(metrics_.Scrape(), Not(HasSubstr("causeway_expert_tokens_total")));
  engine_.stats().executor.experts.clear();
  EXPECT_THAT(metrics_.Scrape(), Not(HasSubstr("expert")));
}

TEST_F(MetricsTest, PromtoolHasNothingToSay) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0) GTEST_SKIP() << "promtool is not installed";
  const std::string file = ::testing::TempDir() + "/scrape.txt";
  std::FILE* out = std::fopen(file.c_str(), "w");
  ASSERT_NE(out, nullptr);
  std::fputs(metrics_.Scrape().c_str(), out);
  std::fclose(out);
  std::FILE* lint = popen(("promtool check metrics < " + file + " 2>&1").c_str(), "r");
  std::string said(4096, '\0');
  said.resize(std::fread(said.data(), 1, said.size(), lint));
  EXPECT_EQ(WEXITSTATUS(pclose(lint)), 0);
  EXPECT_EQ(said, "");
}

TEST(HttpServer, ServesProbesAndMetrics) {
  std::string why = "loading";
  auto server = HttpServer::Start({"127.0.0.1", 0},
                                  {.metrics = [] { return std::string("m 1\n"); }, .not_ready = [&] { return why; }});
  ASSERT_TRUE(server.ok()) << server.status();
  httplib::Client client("127.0.0.1", (*server)->address().port);
  EXPECT_EQ(client.Get("/metrics")->body, "m 1\n");
  EXPECT_THAT(client.Get("/metrics")->get_header_value("Content-Type"), HasSubstr("text/plain; version=0.0.4"));
  EXPECT_EQ(client.Get("/healthz")->status, 200);
  EXPECT_EQ(client.Get("/readyz")->status, 503);
  EXPECT_EQ(client.Get("/readyz")->body, "loading\n");
  why.clear();
  EXPECT_EQ(client.Get("/readyz")->status, 200);
  EXPECT_EQ(client.Get("/other")->status, 404);

  const absl::Status taken = HttpServer::Start((*server)->address(), {}).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(taken.message()), HasSubstr(absl::StrCat("port ", (*server)->address().port, " is in use")));
}

// A connection to 127.0.0.1 on which `text` has been sent, and nothing more.
class HalfOpen {
 public:
  HalfOpen(int port, const std::string& text) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(send(fd_, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  ~HalfOpen() { close(fd_); }
  HalfOpen(HalfOpen&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

 private:
  int fd_;
};

TEST(HttpServer, SilentConnectionsHoldNobodyUpForLong) {
  auto server = HttpServer::Start({"127.0.0.1", 0}, {});
  ASSERT_TRUE(server.ok()) << server.status();
  const int port = (*server)->address().port;
  std::vector<HalfOpen> silent;
  for (int i = 0; i < 12; ++i) silent.emplace_back(port, i % 2 == 0 ? "" : "GET /healthz HTTP/1.1\r\n");
  httplib::Client client("127.0.0.1", port);
  const absl::Time start = absl::Now();
  const httplib::Result result = client.Get("/healthz");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200);
  EXPECT_LT(absl::Now() - start, absl::Seconds(4));
  // A connection that has had its answer does not hold a thread either.
  EXPECT_EQ(result->get_header_value("Connection"), "close");
}

}  // namespace
}  // namespace causeway
