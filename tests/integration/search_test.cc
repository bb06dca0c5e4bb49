// Tests causewayd plan --search and --calibrate, through the program.
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";

std::string InTemp(const std::string& name) { return (fs::path(::testing::TempDir()) / name).string(); }

std::string ReadText(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// A calibration of the processor that this runs on, whatever its speed.
std::string WriteCalibration(const std::string& name) {
  const std::string path = InTemp(name);
  const ProgramResult plan = RunCausewayd({"plan", "--model", kModel, "--devices", "cpu", "--format", "json"});
  const std::string cpu = nlohmann::json::parse(plan.out).at("devices").at(0).at("model");
  const nlohmann::json speed = {{"bytes_per_second", 3e10}, {"flops", 4e11}, {"overlap", 0.5}};
  std::ofstream(path) << nlohmann::json{{"version", 2},
                                        {"disk_bytes_per_second", 1e9},
                                        {"devices",
                                         {{cpu,
                                           {{"linears", {{"bf16", speed}}},
                                            {"attention", speed},
                                            {"row_bytes_per_second", 5e9},
                                            {"step_seconds", 1e-4},
                                            {"sample_seconds", 1e-6},
                                            {"layer_seconds", 1e-5},
                                            {"copy_bytes_per_second", 1e8},
                                            {"hand_over_seconds", 2e-5},
                                            {"threads", 2},
                                            {"cache_bytes", 0},
                                            {"cached_linears", nlohmann::json::object()}}}}}};
  return path;
}

ProgramResult Search(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"plan", "--model", kModel, "--search"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunCausewayd(arguments);
}

nlohmann::json PlanOf(const std::string& config, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"plan", "--config", config, "--format", "json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const ProgramResult plan = RunCausewayd(arguments);
  EXPECT_EQ(plan.status, 0) << plan.err << ReadText(config);
  return plan.status == 0 ? nlohmann::json::parse(plan.out) : nlohmann::json();
}

TEST(Search, RanksWhatACatalogueFleetCanDo) {
  const ProgramResult table = Search({"--devices", "8xH100-80GB", "--concurrency", "1,64", "--max-tpot-ms", "20"});
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_THAT(table.out,
              HasSubstr("on 8 x H100-80GB; requests of 512 + 128 tokens, 1, 64 at once, TPOT up to 20.0 ms"));
  EXPECT_THAT(table.out, HasSubstr("Speeds are assumed"));
  const ProgramResult json = Search({"--devices", "2xRTX4090,1xA6000", "--format", "json"});
  EXPECT_EQ(json.status, 0) << json.err;
  const nlohmann::json search = nlohmann::json::parse(json.out);
  EXPECT_GE(search.at("ranked").size(), 2u);
  EXPECT_EQ(search.at("ranked").at(0).at("replicas").at(0).at(0).at("device"), "cuda:0");
  const ProgramResult csv = Search({"--devices", "16xL4", "--nodes", "2", "--network", "25Gb/s", "--format", "csv"});
  EXPECT_EQ(csv.status, 0) << csv.err;
  EXPECT_THAT(csv.out, HasSubstr("rank,dp,pp,tp,micro_batches"));
}

TEST(Search, WritesAConfigurationThatPlansAndServes) {
  const std::string calibration = WriteCalibration("search_calibration.json"), file = InTemp("search_pipeline.yaml");
  const ProgramResult search =
      Search({"--devices", "simulated:2x24MiB", "--calibration", calibration, "--prompt-tokens", "64",
              "--output-tokens", "64", "--concurrency", "8", "--max-num-batched-tokens", "128", "--config-out", file});
  ASSERT_EQ(search.status, 0) << search.err;
  EXPECT_THAT(search.err, HasSubstr(absl::StrCat(file, ": a configuration for rank ")));
  SCOPED_TRACE(ReadText(file));
  const ProgramResult plan = RunCausewayd({"plan", "--config", file, "--format", "json"});
  ASSERT_EQ(plan.status, 0) << plan.err;
  const nlohmann::json planned = nlohmann::json::parse(plan.out);
  EXPECT_EQ(planned.at("kv_cache").at("max_model_len"), 128);
  DaemonProcess daemon({"--config", file});
  EXPECT_TRUE(daemon.WaitUntilServing()) << daemon.Err();
}

TEST(Search, AConfigurationForAPipelineHasItsStages) {
  const std::string file = InTemp("search_stages.yaml");
  // 5.5 million parameters in 10 MiB, and steps of 64 tokens: one device is too small, two are enough. They differ, so
  // that they cannot share layers.
  const ProgramResult search =
      Search({"--devices", "simulated:1x10MiB,1x11MiB", "--calibration", WriteCalibration("stages_calibration.json"),
              "--prompt-tokens", "32", "--output-tokens", "32", "--concurrency", "2", "--max-num-batched-tokens", "32",
              "--offload-compute", "stream", "--config-out", file, "--format", "json"});
  ASSERT_EQ(search.status, 0) << search.err;
  const nlohmann::json found = nlohmann::json::parse(search.out);
  const nlohmann::json& best = found.at("ranked").at(found.at("best_served").get<int>());
  EXPECT_EQ(best.at("pp"), 2);
  const ProgramResult plan = RunCausewayd({"plan", "--config", file, "--format", "json"});
  ASSERT_EQ(plan.status, 0) << plan.err << ReadText(file);
  const nlohmann::json planned = nlohmann::json::parse(plan.out);
  // The plan has what the search said of each stage.
  for (int stage = 0; stage < 2; ++stage) {
    EXPECT_EQ(planned.at("devices").at(stage).at("weights"), best.at("replicas").at(0).at(stage).at("weights"));
    EXPECT_GE(planned.at("devices").at(stage).at("kv_cache"), best.at("replicas").at(0).at(stage).at("kv_cache"));
  }
  EXPECT_THAT(ReadText(file), HasSubstr("simulated:1x10485760B,1x11534336B"));
}

TEST(Search, AConfigurationForDevicesThatShareLayersServes) {
  const std::string file = InTemp("search_ranks.yaml");
  const ProgramResult search =
      Search({"--devices", "simulated:2x10MiB", "--calibration", WriteCalibration("ranks_calibration.json"),
              "--prompt-tokens", "32", "--output-tokens", "32", "--concurrency", "2", "--max-num-batched-tokens", "32",
              "--config-out", file, "--format", "json"});
  ASSERT_EQ(search.status, 0) << search.err;
  const nlohmann::json found = nlohmann::json::parse(search.out);
  const nlohmann::json& best = found.at("ranked").at(found.at("best_served").get<int>());
  EXPECT_EQ(best.at("tp"), 2);
  SCOPED_TRACE(ReadText(file));
  EXPECT_THAT(ReadText(file), HasSubstr("parallel: \"dp=1,pp=1,tp=2\""));
  const nlohmann::json planned = PlanOf(file);
  for (int rank = 0; rank < 2; ++rank)
    EXPECT_LE(planned.at("devices").at(rank).at("weights"), best.at("replicas").at(0).at(0).at("weights"));
  DaemonProcess daemon({"--config", file});
  EXPECT_TRUE(daemon.WaitUntilServing()) << daemon.Err();
}

TEST(Search, AConfigurationForGpusSaysHowToPlanItWithoutThem) {
  const std::string file = InTemp("search_gpus.yaml");
  const ProgramResult search = Search({"--devices", "4xL4", "--concurrency", "16", "--config-out", file});
  ASSERT_EQ(search.status, 0) << search.err;
  const std::string text = ReadText(file);
  EXPECT_THAT(text, HasSubstr("devices: \"cuda:0,1,2,3\""));
  EXPECT_THAT(text, HasSubstr("parallel: \"dp=4,pp=1,tp=1\""));
  EXPECT_THAT(text, HasSubstr("causewayd plan --config FILE --devices 4xL4\n"));
  EXPECT_EQ(RunCausewayd({"plan", "--config", file, "--devices", "4xL4"}).status, 0);
  const ProgramResult beside = Search({"--devices", "1xL4,cpu:64GB", "--concurrency", "16", "--config-out", file});
  ASSERT_EQ(beside.status, 0) << beside.err;
  EXPECT_THAT(ReadText(file), HasSubstr("causewayd plan --config FILE --devices 1xL4,cpu:64000000000B\n"));
}

TEST(Search, RefusesWhatItCannotRead) {
  const auto refused = [](const std::vector<std::string>& more, int status, const std::string& message) {
    std::vector<std::string> arguments = {"--devices", "2xL4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = Search(arguments);
    EXPECT_EQ(result.status, status) << result.out;
    EXPECT_THAT(result.err, HasSubstr(message));
  };
  refused({"--prompt-tokens", "0"}, 78, "--prompt-tokens: expected a whole number from 1 to 16777216, got \"0\"");
  refused({"--prompt-tokens", "4000"}, 78, "longer than the model's context, 2048");
  refused({"--concurrency", "4,,8"}, 78, "--concurrency: expected numbers with commas between, got \"4,,8\"");
  refused({"--concurrency", "many"}, 78, "--concurrency: expected a whole number from 1 to 1048576, got \"many\"");
  refused({"--max-ttft-ms", "soon"}, 78, "--max-ttft-ms: expected milliseconds above 0, got \"soon\"");
  refused({"--nodes", "3"}, 78, "2 devices cannot be divided evenly among 3 nodes");
  refused({"--network", "fast"}, 78, "--network: expected a speed such as \"400Gb/s\"");
  refused({"--calibration", "/nonexistent.json"}, 1,
          "/nonexistent.json cannot be read; causewayd plan --calibrate makes it");
  refused({"--format", "xml"}, 64, "--format: expected table, json or markdown, or csv with --search, got \"xml\"");
  refused({"--max-ttft-ms", "0.000001", "--config-out", InTemp("none.yaml")}, 1,
          "there is no strategy that fits, keeps the limits and can be served by this version; DP 2: TTFT ");
  EXPECT_THAT(RunCausewayd({"plan", "--model", kModel, "--search=yes"}).err,
              HasSubstr("--search takes no value, got \"yes\""));
  refused({"--max-model-len", "4096"}, 78, "max_model_len 4096 is longer than the model's context, 2048");
  refused({"--calibrate"}, 64, "--search and --calibrate: one at a time");
  const ProgramResult unmeasured =
      RunCausewayd({"plan", "--model", kModel, "--search", "--devices", "cpu"}, {{"XDG_CACHE_HOME", "/nonexistent"}});
  EXPECT_EQ(unmeasured.status, 78);
  EXPECT_THAT(unmeasured.err, HasSubstr("measure it with causewayd plan --calibrate"));
  const ProgramResult alone = RunCausewayd({"plan", "--model", kModel, "--nodes", "2"});
  EXPECT_EQ(alone.status, 64);
  EXPECT_THAT(alone.err, HasSubstr("--nodes is for --search"));
  EXPECT_THAT(RunCausewayd({"plan", "--model", kModel, "--format", "csv"}).err, HasSubstr("csv with --search"));
}

TEST(Calibrate, MeasuresTheProcessorAndSearchUsesIt) {
  const std::string file = InTemp("measured/calibration.json");
  fs::remove(file);
  const ProgramResult measured = RunCausewayd(
      {"plan", "--model", kModel, "--devices", "cpu", "--calibrate", "--calibration", file, "--format", "json"});
  ASSERT_EQ(measured.status, 0) << measured.err;
  const nlohmann::json report = nlohmann::json::parse(measured.out);
  ASSERT_EQ(report.at("checks").size(), 6u);
  // How near they are can be tested only on a machine with nothing else to do.
  for (const nlohmann::json& check : report.at("checks")) {
    EXPECT_GT(check.at("predicted_seconds").get<double>(), 0) << check;
    EXPECT_LT(check.at("predicted_seconds").get<double>(), 10) << check;
    EXPECT_GT(check.at("measured_seconds").get<double>(), 0) << check;
  }
  const nlohmann::json kept = nlohmann::json::parse(ReadText(file));
  ASSERT_EQ(kept.at("devices").size(), 1u);
  const nlohmann::json& speed = kept.at("devices").begin().value();
  EXPECT_GT(speed.at("linears").at("bf16").at("flops"), 1e9);
  EXPECT_GT(speed.at("linears").at("bf16").at("bytes_per_second"), 1e8);
  const ProgramResult search = Search({"--devices", "cpu", "--calibration", file, "--concurrency", "4",
                                       "--prompt-tokens", "64", "--output-tokens", "64"});
  EXPECT_EQ(search.status, 0) << search.err;
  EXPECT_THAT(search.out, HasSubstr("one device"));
  EXPECT_THAT(search.out, Not(HasSubstr("assumed")));
  const std::string before = ReadText(file);
  const ProgramResult small =
      RunCausewayd({"plan", "--model", kModel, "--devices", "simulated:1x32MiB", "--calibrate", "--calibration", file});
  EXPECT_EQ(small.status, 1);
  EXPECT_THAT(small.err, HasSubstr("the budget is 33554432"));
  EXPECT_EQ(ReadText(file), before);
  const ProgramResult two =
      RunCausewayd({"plan", "--model", kModel, "--devices", "simulated:2x64MiB", "--calibrate", "--calibration", file});
  EXPECT_EQ(two.status, 78);
  EXPECT_THAT(two.err, HasSubstr("--calibrate measures one device that is at hand; --devices names 2"));
}

TEST(Calibrate, WritesOverOlderVersionsAndNothingElse) {
  const std::string file = InTemp("no_calibration.json");
  std::ofstream(file) << "a letter";
  const ProgramResult letter =
      RunCausewayd({"plan", "--model", kModel, "--devices", "cpu", "--calibrate", "--calibration", file});
  EXPECT_EQ(letter.status, 78);
  EXPECT_THAT(letter.err, HasSubstr(file));
  EXPECT_EQ(ReadText(file), "a letter");
  std::ofstream(file) << R"({"version": 1, "devices": {}})";
  const ProgramResult search = Search({"--devices", "cpu", "--calibration", file});
  EXPECT_EQ(search.status, 1);
  EXPECT_THAT(search.err, HasSubstr("is of version 1, expected 2: measure again with causewayd plan --calibrate"));
  const ProgramResult measured =
      RunCausewayd({"plan", "--model", kModel, "--devices", "cpu", "--calibrate", "--calibration", file});
  EXPECT_EQ(measured.status, 0) << measured.err;
  EXPECT_THAT(measured.out, HasSubstr("from stage to stage"));
  EXPECT_EQ(nlohmann::json::parse(ReadText(file)).at("version"), 2);
}

// The plan of a configuration that a search wrote. What is elsewhere in it is what the search found.
TEST(Search, AModelThatHasNoRoomIsServedWithOffload) {
  const std::string config = InTemp("search-offload.yaml"), calibration = WriteCalibration("search-offload.json");
  const ProgramResult search =
      Search({"--devices", "simulated:1x9MiB", "--concurrency", "2", "--prompt-tokens", "32", "--output-tokens", "16",
              "--max-num-batched-tokens", "64", "--calibration", calibration, "--config-out", config});
  ASSERT_EQ(search.status, 0) << search.err;
  EXPECT_THAT(search.err, HasSubstr("offload"));
  EXPECT_THAT(ReadText(config), HasSubstr("cpu:"));
  EXPECT_GT(PlanOf(config).at("offloaded").at("cpu"), 0);
}

TEST(Search, APipelineThatOffloadsKeepsItsStagesAndServes) {
  const std::string config = InTemp("search-offload-stages.yaml"),
                    calibration = WriteCalibration("search-offload-stages.json");
  const std::string folder = InTemp("search-offload-folder");
  fs::create_directories(folder);
  // The devices have 5 MiB each, for 5.5 million parameters in bf16. Some of the rest is in CPU memory, some on disk.
  const std::vector<std::string> fleet = {
      "--devices", "simulated:1x5MiB,1x6MiB", "--max-memory", "0:5MiB,1:6MiB,cpu:3MiB", "--offload-folder", folder};
  std::vector<std::string> arguments = fleet;
  for (const char* more : {"--concurrency", "2", "--prompt-tokens", "16", "--output-tokens", "16",
                           "--max-num-batched-tokens", "16", "--format", "json"})
    arguments.push_back(more);
  arguments.insert(arguments.end(), {"--calibration", calibration, "--config-out", config});
  const ProgramResult search = Search(arguments);
  ASSERT_EQ(search.status, 0) << search.err;
  const nlohmann::json found = nlohmann::json::parse(search.out);
  const nlohmann::json& best = found.at("ranked").at(found.at("best_served").get<int>());
  ASSERT_EQ(best.at("pp"), 2);
  EXPECT_EQ(best.at("offload"), true);
  EXPECT_GT(best.at("on_disk_bytes"), 0);
  const nlohmann::json planned = PlanOf(config);
  ASSERT_EQ(planned.at("segments").size(), 2u);
  EXPECT_GT(planned.at("offloaded").at("cpu"), 0);
  EXPECT_GT(planned.at("offloaded").at("disk"), 0);
  const int64_t elsewhere =
      planned.at("offloaded").at("cpu").get<int64_t>() + planned.at("offloaded").at("disk").get<int64_t>();
  EXPECT_LE(elsewhere, best.at("offloaded_bytes"));
  DaemonProcess daemon({"--config", config});
  EXPECT_TRUE(daemon.WaitUntilServing()) << daemon.Err();
}

TEST(Search, ReplicasOfOtherDevicesHaveConfigurationsOfTheirOwn) {
  const std::string config = InTemp("search-replicas.yaml"), second = InTemp("search-replicas-3.yaml");
  fs::remove(second);
  fs::remove(InTemp("search-replicas-2.yaml"));
  const ProgramResult search = Search({"--devices", "2xL4,2xRTX4080", "--concurrency", "6", "--config-out", config});
  ASSERT_EQ(search.status, 0) << search.err;
  EXPECT_THAT(search.err, HasSubstr("replica 1, as for 2\n"));
  EXPECT_THAT(search.err, HasSubstr("replica 3, as for 4\n"));
  EXPECT_FALSE(fs::exists(InTemp("search-replicas-2.yaml")));
  EXPECT_THAT(ReadText(second), HasSubstr("devices: \"cuda:2\""));
  EXPECT_THAT(ReadText(second), HasSubstr("# For 1xRTX4080"));
  EXPECT_EQ(PlanOf(config, {"--devices", "1xL4"}).at("devices").size(), 1u);
  // Daemons count their simulated devices from 0, whatever they were in the fleet.
  const ProgramResult simulated =
      Search({"--devices", "simulated:2x12MiB,2x9MiB", "--max-memory", "0:12MiB,1:12MiB,2:9MiB,3:9MiB,cpu:8MiB",
              "--concurrency", "8", "--prompt-tokens", "16", "--output-tokens", "16", "--max-num-batched-tokens", "16",
              "--calibration", WriteCalibration("replicas.json"), "--config-out", config});
  ASSERT_EQ(simulated.status, 0) << simulated.err;
  ASSERT_THAT(simulated.err, HasSubstr("DP 2 x PP 2, 2 micro-batches, replica 2"));
  const std::string of_second = InTemp("search-replicas-2.yaml");
  EXPECT_THAT(ReadText(of_second), HasSubstr("devices: \"simulated:1x9437184B,1x9437184B\""));
  EXPECT_EQ(PlanOf(of_second).at("segments").size(), 2u);
}

TEST(Search, SaysWhatItLeavesAside) {
  const ProgramResult search = Search({"--devices", "2xL4", "--device-map", "balanced", "--kv-cache", "1024"});
  EXPECT_EQ(search.status, 0);
  EXPECT_THAT(search.err, HasSubstr("warning: --device-map is left aside: the search decides it"));
  EXPECT_THAT(search.err, HasSubstr("warning: --kv-cache is left aside"));
  EXPECT_THAT(Search({"--devices", "4xL4", "--max-memory", "0:20GB,1:20GB"}).out, HasSubstr("on 2 x L4;"));
}

}  // namespace
}  // namespace causeway
