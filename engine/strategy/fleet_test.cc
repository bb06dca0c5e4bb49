#include "engine/strategy/fleet.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

Fleet Made(absl::string_view devices, const FleetOptions& options = {}, const Calibration& calibration = {}) {
  const absl::StatusOr<std::vector<Device>> parsed = ParseDevices(devices, [] { return std::vector<Device>(); });
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  absl::StatusOr<Fleet> fleet = MakeFleet(*parsed, options, calibration);
  EXPECT_TRUE(fleet.ok()) << fleet.status();
  return fleet.ok() ? *std::move(fleet) : Fleet();
}

TEST(FleetTest, LinksAreNvlinkWherePossibleThenPcieThenTheNetwork) {
  const Fleet nodes = Made("16xH100-80GB", {.nodes = 2, .network_bytes_per_second = 50e9});
  EXPECT_EQ(LinkBetween(nodes, 0, 7).name, "NVLink");
  EXPECT_DOUBLE_EQ(LinkBetween(nodes, 0, 7).bytes_per_second, 0.8 * 450e9);
  EXPECT_EQ(LinkBetween(nodes, 7, 8).name, "network");
  EXPECT_EQ(SlowestLink(nodes, 0, 8).name, "NVLink");
  EXPECT_EQ(SlowestLink(nodes, 6, 4).name, "network");
  EXPECT_DOUBLE_EQ(SlowestLink(nodes, 6, 4).bytes_per_second, 50e9);

  // A bridge joins two.
  const Fleet bridges = Made("4xA6000");
  EXPECT_EQ(LinkBetween(bridges, 0, 1).name, "NVLink");
  EXPECT_EQ(LinkBetween(bridges, 1, 2).name, "PCIe");
  EXPECT_EQ(LinkBetween(bridges, 2, 3).name, "NVLink");
  EXPECT_EQ(SlowestLink(bridges, 0, 4).name, "PCIe");

  // Through the host at the slower one's speed.
  const Fleet mixed = Made("1xA10,1xH100-80GB");
  EXPECT_DOUBLE_EQ(LinkBetween(mixed, 0, 1).bytes_per_second, 0.8 * 31.5e9);
  EXPECT_FALSE(mixed.devices[0].Like(mixed.devices[1]));
  EXPECT_TRUE(bridges.devices[0].Like(bridges.devices[3]));
}

TEST(FleetTest, BudgetsAreThePlans) {
  const Fleet fleet = Made("4xL4", {.nodes = 2, .max_memory = {{"1", int64_t{10} << 30}, {"2", int64_t{11} << 30}}});
  ASSERT_EQ(fleet.devices.size(), 2u);  // those that max_memory does not list are not used
  EXPECT_EQ(fleet.devices[0].device.name, "cuda:1");
  EXPECT_EQ(fleet.devices[0].budget, int64_t{10} << 30);
  EXPECT_EQ(fleet.devices[0].node, 0);
  EXPECT_EQ(fleet.devices[1].node, 1);
  EXPECT_EQ(Made("1xL4").devices[0].budget, (int64_t{23034} << 20) / 10 * 9);
  EXPECT_EQ(Made("1xL4").devices[0].reserve, (int64_t{692} << 20) + 23034 * 512);
}

DeviceSpeed Processor() {
  DeviceSpeed cpu;
  cpu.linears["bf16"] = {.bytes_per_second = 40, .flops = 400, .overlap = 0.5};
  cpu.attention = {.bytes_per_second = 20, .flops = 200};
  cpu.copy_bytes_per_second = 8;
  cpu.row_bytes_per_second = 12;
  cpu.threads = 4;
  return cpu;
}

TEST(FleetTest, SimulatedDevicesShareTheProcessor) {
  const Calibration calibration{.devices = {{"a processor", Processor()}}};
  const Fleet fleet = Made("simulated:4x1GiB", {.cpu_model = "a processor"}, calibration);
  ASSERT_EQ(fleet.devices.size(), 4u);
  EXPECT_TRUE(fleet.devices[3].measured);
  EXPECT_DOUBLE_EQ(fleet.devices[3].speed.linears.at("bf16").bytes_per_second, 10);
  EXPECT_DOUBLE_EQ(fleet.devices[3].speed.linears.at("bf16").flops, 100);
  EXPECT_DOUBLE_EQ(fleet.devices[3].speed.attention.flops, 50);
  EXPECT_DOUBLE_EQ(fleet.devices[3].speed.row_bytes_per_second, 3);
  EXPECT_DOUBLE_EQ(fleet.devices[3].turns, 1);
  EXPECT_EQ(LinkBetween(fleet, 0, 3).name, "memory");
  EXPECT_DOUBLE_EQ(LinkBetween(fleet, 0, 3).bytes_per_second, 8);
  // More of them than threads take turns at a thread's speed. Those without a budget compute nothing.
  const Fleet many = Made("simulated:8x1GiB", {.cpu_model = "a processor"}, calibration);
  EXPECT_DOUBLE_EQ(many.devices[0].speed.linears.at("bf16").flops, 100);
  EXPECT_DOUBLE_EQ(many.devices[0].turns, 0.5);
  const Fleet one = Made("simulated:8x1GiB", {.max_memory = {{"3", 1 << 20}}, .cpu_model = "a processor"}, calibration);
  ASSERT_EQ(one.devices.size(), 1u);
  EXPECT_DOUBLE_EQ(one.devices[0].speed.linears.at("bf16").flops, 400);
  const auto devices = *ParseDevices("simulated:1x1GiB", [] { return std::vector<Device>(); });
  EXPECT_THAT(
      std::string(MakeFleet(devices, {.cpu_model = "a processor", .cpu_threads = 2}, calibration).status().message()),
      HasSubstr("was measured with 4 threads, and cpu_threads is 2; measure it with causewayd plan --calibrate "
                "--cpu-threads 2"));
}

TEST(FleetTest, DevicesShareWhatTheirNodeHasForOffloadedWeights) {
  const int64_t GB = 1000000000;
  const Calibration calibration{.devices = {{"a processor", Processor()}}, .disk_bytes_per_second = 2e9};
  // Nothing is said: as much as there is to be. Said: no more, over both devices of each node.
  EXPECT_GT(Made("4xL4", {.nodes = 2}).devices[0].cpu_bytes, int64_t{1} << 50);
  EXPECT_EQ(Made("4xL4", {.nodes = 2}).devices[0].disk_bytes_per_second, 0);
  const std::map<std::string, int64_t> max_memory = {{"", 10 * GB}, {"cpu", 64 * GB}};
  EXPECT_EQ(Made("4xL4", {.nodes = 2, .max_memory = max_memory}).devices[3].cpu_bytes, 32 * GB);
  EXPECT_EQ(Made("4xL4", {.offload_to_disk = true}).devices[3].cpu_bytes, 0);  // as in a plan
  EXPECT_EQ(Made("4xL4,cpu:100GB", {.nodes = 2}).devices[3].cpu_bytes, 45 * GB) << "0.9 of each node's";
  const Fleet catalogue = Made("4xL4", {.nodes = 2, .max_memory = max_memory, .offload_to_disk = true}, calibration);
  EXPECT_EQ(catalogue.devices[0].cpu_bytes, 32 * GB);
  EXPECT_FALSE(catalogue.disk_measured);  // that of another machine
  EXPECT_DOUBLE_EQ(catalogue.devices[0].disk_bytes_per_second, kDiskShare * CatalogueDiskBytesPerSecond() / 2);
  EXPECT_DOUBLE_EQ(catalogue.devices[0].cpu_bytes_per_second,
                   kLinkShare * FindInCatalogue("L4")->host_bytes_per_second);
  const Fleet here = Made("simulated:2x1GiB", {.offload_to_disk = true, .cpu_model = "a processor"}, calibration);
  EXPECT_TRUE(here.disk_measured);
  EXPECT_DOUBLE_EQ(here.devices[1].disk_bytes_per_second, 1e9);
  EXPECT_TRUE(std::isinf(here.devices[1].cpu_bytes_per_second));  // they compute from there
  EXPECT_DOUBLE_EQ(Made("simulated:1x1GiB", {.offload_stream = true, .cpu_model = "a processor"}, calibration)
                       .devices[0]
                       .cpu_bytes_per_second,
                   8);
  EXPECT_EQ(Made("cpu", {.cpu_model = "a processor"}, calibration).devices[0].cpu_bytes,
            0);  // its own memory is no other tier
}

TEST(FleetTest, AMeasuredDeviceGoesBeforeTheCatalogue) {
  DeviceSpeed measured = AssumedSpeed(*FindInCatalogue("L4"));
  measured.linears["bf16"].flops = 1;
  const Fleet fleet = Made("1xL4,1xA10", {}, {.devices = {{"L4", measured}}});
  EXPECT_TRUE(fleet.devices[0].measured);
  EXPECT_EQ(fleet.devices[0].speed.linears.at("bf16").flops, 1);
  EXPECT_FALSE(fleet.devices[1].measured);
}

TEST(FleetTest, RefusesWhatItCannotKnow) {
  const std::vector<Device> simulated = TestDevices({1 << 20, 1 << 20, 1 << 20});
  EXPECT_THAT(std::string(MakeFleet(simulated, {.cpu_model = "a processor"}, {}).status().message()),
              AllOf(HasSubstr("simulated:0 (a processor)"), HasSubstr("--calibrate")));
  EXPECT_THAT(std::string(MakeFleet(simulated, {.nodes = 2}, {}).status().message()),
              HasSubstr("3 devices cannot be divided evenly among 2 nodes"));
  EXPECT_DOUBLE_EQ(*ParseLinkSpeed("400Gb/s"), 50e9);
  EXPECT_DOUBLE_EQ(*ParseLinkSpeed("12.5GB/s"), 12.5e9);
  for (const char* wrong : {"", "400", "Gb/s", "-1Gb/s", "0GB/s", "400gb/s", "nanGb/s", "infGB/s"}) {
    EXPECT_THAT(std::string(ParseLinkSpeed(wrong).status().message()),
                HasSubstr("expected a speed such as \"400Gb/s\""))
        << wrong;
  }
}

}  // namespace
}  // namespace causeway
