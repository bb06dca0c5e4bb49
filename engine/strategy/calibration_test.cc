#include "engine/strategy/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

Calibration Measured() {
  DeviceSpeed cpu;
  cpu.linears["bf16"] = {.bytes_per_second = 4e10, .flops = 5e11, .overlap = 0.75};
  cpu.linears["int8"] = {.bytes_per_second = 3e10, .flops = 8e11, .overlap = 1};
  cpu.attention = {.bytes_per_second = 2e10, .flops = 1e11, .overlap = 0};
  cpu.row_bytes_per_second = 5e9;
  cpu.step_seconds = 1e-4;
  cpu.sample_seconds = 1e-6;
  cpu.layer_seconds = 2e-5;
  cpu.copy_bytes_per_second = 1e10;
  cpu.hand_over_seconds = 3e-5;
  cpu.threads = 8;
  cpu.cache_bytes = 1 << 24;
  cpu.cached_linears["bf16"] = {.bytes_per_second = 1e11, .flops = 3e11, .overlap = 0.5};
  return {.devices = {{"a processor", cpu}}, .disk_bytes_per_second = 1e9};
}

TEST(WorkSpeedTest, HidesAsMuchAsOverlaps) {
  WorkSpeed speed{.bytes_per_second = 10, .flops = 100, .overlap = 1};
  EXPECT_DOUBLE_EQ(speed.Seconds(30, 200), 3);  // reading takes 3 s, computing 2
  EXPECT_DOUBLE_EQ(speed.Seconds(10, 200), 2);
  speed.overlap = 0;
  EXPECT_DOUBLE_EQ(speed.Seconds(30, 200), 5);
  speed.overlap = 0.25;
  EXPECT_DOUBLE_EQ(speed.Seconds(30, 200), 3 + 0.75 * 2);
}

TEST(WorkSpeedTest, IsFoundFromTimes) {
  const WorkSpeed made{.bytes_per_second = 3e10, .flops = 4e11, .overlap = 0.6};
  std::vector<WorkTime> times;
  for (const double rows : {1.0, 4.0, 16.0, 64.0, 512.0})
    times.push_back({1e7, 1e7 * rows, made.Seconds(1e7, 1e7 * rows)});
  WorkSpeed found = FitWorkSpeed(times);
  EXPECT_NEAR(found.bytes_per_second / made.bytes_per_second, 1, 0.03);
  EXPECT_NEAR(found.flops / made.flops, 1, 0.03);
  EXPECT_NEAR(found.overlap, made.overlap, 0.08);
  // Noise moves it by no more than itself.
  for (size_t i = 0; i < times.size(); ++i) times[i].seconds *= i % 2 == 0 ? 1.1 : 0.9;
  found = FitWorkSpeed(times);
  for (const WorkTime& time : times) EXPECT_NEAR(found.Seconds(time.bytes, time.flop) / time.seconds, 1, 0.16);
}

TEST(CalibrationTest, AssumesSharesOfTheMakersFigures) {
  const DeviceSpeed h100 = AssumedSpeed(*FindInCatalogue("H100-80GB"));
  EXPECT_DOUBLE_EQ(h100.Linears("bf16", DType::kBF16, 1)->bytes_per_second, 0.8 * 3350e9);
  EXPECT_DOUBLE_EQ(h100.Linears("bf16", DType::kBF16, 1)->flops, 0.5 * 989e12);
  EXPECT_EQ(h100.Linears("int4", DType::kBF16, 1), h100.Linears("bf16", DType::kBF16, 1));  // widened, then multiplied
  const DeviceSpeed t4 = AssumedSpeed(*FindInCatalogue("T4"));
  EXPECT_EQ(t4.Linears("bf16", DType::kBF16, 1), t4.Linears("fp32", DType::kF32, 1));  // it has no bf16
}

TEST(CalibrationTest, GoesThroughItsFile) {
  const absl::StatusOr<Calibration> read = ParseCalibration(CalibrationJson(Measured()), "c.json");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(CalibrationJson(*read), CalibrationJson(Measured()));
  EXPECT_EQ(read->devices.at("a processor").linears.at("int8").flops, 8e11);
  EXPECT_EQ(read->devices.at("a processor").hand_over_seconds, 3e-5);
  EXPECT_EQ(read->devices.at("a processor").threads, 8);
  const DeviceSpeed& cpu = read->devices.at("a processor");
  EXPECT_EQ(cpu.Linears("bf16", DType::kBF16, 1 << 24), &cpu.cached_linears.at("bf16"));
  EXPECT_EQ(cpu.Linears("bf16", DType::kBF16, (1 << 24) + 1), &cpu.linears.at("bf16"));
  EXPECT_EQ(cpu.Linears("int8", DType::kBF16, 1), &cpu.linears.at("int8"));  // not measured in the cache
}

TEST(CalibrationTest, SaysWhatIsWrongWithAFile) {
  const std::string good = CalibrationJson(Measured());
  const auto error = [&good](const std::string& from, const std::string& to) {
    EXPECT_THAT(good, HasSubstr(from));
    return std::string(ParseCalibration(absl::StrReplaceAll(good, {{from, to}}), "c.json").status().message());
  };
  EXPECT_THAT(error("\"version\": 2", "\"version\": 1"),
              AllOf(HasSubstr("c.json: "), HasSubstr("version 1, expected 2"), HasSubstr("--calibrate")));
  EXPECT_THAT(error("\"overlap\": 0.75", "\"overlap\": 1.5"),
              HasSubstr("devices.a processor.linears.bf16.overlap: expected a number from 0 to 1, got 1.5"));
  EXPECT_THAT(error("\"bytes_per_second\": 20000000000.0", "\"bytes_per_second\": \"fast\""),
              HasSubstr("attention.bytes_per_second: expected a number"));
  EXPECT_EQ(
      ParseCalibration(absl::StrReplaceAll(good, {{"\"version\": 2", "\"version\": 1"}}), "c.json").status().code(),
      absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(error("\"threads\": 8", "\"threads\": 0"),
              HasSubstr("devices.a processor.threads: expected a number from 1"));
  EXPECT_THAT(error("\"step_seconds\"", "\"step\""), HasSubstr("devices.a processor.step_seconds is missing"));
  EXPECT_THAT(error("\"devices\"", "\"device\""), HasSubstr("devices is missing"));
  EXPECT_THAT(std::string(ParseCalibration("[]", "c.json").status().message()), HasSubstr("expected an object"));
  EXPECT_FALSE(ParseCalibration("{", "c.json").ok());
}

}  // namespace
}  // namespace causeway
