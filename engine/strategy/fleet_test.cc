#include "engine/strategy/fleet.h"

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
  const Fleet mixed = Made("1xT4,1xH100-80GB");
  EXPECT_DOUBLE_EQ(LinkBetween(mixed, 0, 1).bytes_per_second, 0.8 * 15.75e9);
  EXPECT_FALSE(mixed.devices[0].Like(mixed.devices[1]));
  EXPECT_TRUE(bridges.devices[0].Like(bridges.devices[3]));
}

TEST(FleetTest, BudgetsAreThePlans) {
  const Fleet fleet = Made("2xL4", {.max_memory = {{"1", int64_t{10} << 30}}});
  EXPECT_EQ(fleet.devices[0].budget, 0);  // max_memory does not list it
  EXPECT_EQ(fleet.devices[1].budget, int64_t{10} << 30);
  EXPECT_EQ(Made("1xL4").devices[0].budget, (int64_t{23034} << 20) / 10 * 9);
  EXPECT_EQ(Made("1xL4").devices[0].reserve, int64_t{600} << 20);
}

TEST(FleetTest, SimulatedDevicesShareTheProcessor) {
  DeviceSpeed cpu;
  cpu.linears["bf16"] = {.bytes_per_second = 40, .flops = 400, .overlap = 0.5};
  cpu.attention = {.bytes_per_second = 20, .flops = 200};
  cpu.copy_bytes_per_second = 8;
  cpu.row_bytes_per_second = 12;
  const Fleet fleet = Made("simulated:4x1GiB", {.cpu_model = "a processor"}, {.devices = {{"a processor", cpu}}});
  ASSERT_EQ(fleet.devices.size(), 4u);
  EXPECT_TRUE(fleet.devices[3].measured);
  EXPECT_DOUBLE_EQ(fleet.devices[3].speed.linears.at("bf16").bytes_per_second, 10);
  EXPECT_DOUBLE_EQ(fleet.devices[3].speed.linears.at("bf16").flops, 100);
  EXPECT_DOUBLE_EQ(fleet.devices[3].speed.attention.flops, 50);
  EXPECT_DOUBLE_EQ(fleet.devices[3].speed.row_bytes_per_second, 3);
  EXPECT_EQ(LinkBetween(fleet, 0, 3).name, "memory");
  EXPECT_DOUBLE_EQ(LinkBetween(fleet, 0, 3).bytes_per_second, 8);
}

TEST(FleetTest, AMeasuredDeviceGoesBeforeTheCatalogue) {
  DeviceSpeed measured = AssumedSpeed(*FindInCatalogue("L4"));
  measured.linears["bf16"].flops = 1;
  const Fleet fleet = Made("1xL4,1xT4", {}, {.devices = {{"L4", measured}}});
  EXPECT_TRUE(fleet.devices[0].measured);
  EXPECT_EQ(fleet.devices[0].speed.linears.at("bf16").flops, 1);
  EXPECT_FALSE(fleet.devices[1].measured);
}

TEST(FleetTest, RefusesWhatItCannotKnow) {
  const std::vector<Device> simulated = TestDevices({1 << 20, 1 << 20, 1 << 20});
  EXPECT_THAT(std::string(MakeFleet(simulated, {.cpu_model = "a processor"}, {}).status().message()), AllOf(HasSubstr("simulated:0 (a processor)"), HasSubstr("--calibrate")));
  EXPECT_THAT(std::string(MakeFleet(simulated, {.nodes = 2}, {}).status().message()), HasSubstr("3 devices cannot be divided evenly among 2 nodes"));
  EXPECT_DOUBLE_EQ(*ParseLinkSpeed("400Gb/s"), 50e9);
  EXPECT_DOUBLE_EQ(*ParseLinkSpeed("12.5GB/s"), 12.5e9);
  for (const char* wrong : {"", "400", "Gb/s", "-1Gb/s", "0GB/s", "400gb/s", "nanGb/s", "infGB/s"}) {
    EXPECT_THAT(std::string(ParseLinkSpeed(wrong).status().message()), HasSubstr("expected a speed such as \"400Gb/s\"")) << wrong;
  }
}

}  // namespace
}  // namespace causeway
