#include "engine/plan/catalogue.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/ascii.h"
#include "engine/plan/device.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::vector<Device>> Parsed(absl::string_view text) {
  return ParseDevices(text, [] { return std::vector<Device>(); });
}

TEST(CatalogueTest, EveryEntryIsWhole) {
  std::set<std::string> names;
  for (const CatalogueDevice& device : Catalogue()) {
    SCOPED_TRACE(device.name);
    EXPECT_TRUE(names.insert(absl::AsciiStrToLower(device.name)).second);
    EXPECT_TRUE(names.insert(absl::AsciiStrToLower(device.reported)).second);
    EXPECT_GT(device.memory_bytes, int64_t{8} << 30);
    EXPECT_GT(device.memory_bytes_per_second, 1e11);
    EXPECT_LT(device.memory_bytes_per_second, 1e13);
    EXPECT_GT(device.flops.at(DType::kF32), 1e12);
    EXPECT_GE(device.flops.at(DType::kF16), device.flops.at(DType::kF32));
    EXPECT_GT(device.host_bytes_per_second, 1e10);
    EXPECT_GE(device.compute_capability, 70);
    EXPECT_LE(device.compute_capability, 121);
    EXPECT_EQ(device.compute_capability >= kComputeCapabilityMin, device.flops.count(DType::kBF16) > 0);
    EXPECT_EQ(device.nvlink_bytes_per_second > 0, device.nvlink_devices > 1);
    EXPECT_FALSE(device.source.empty());
  }
  EXPECT_GT(CatalogueLatencies().start_seconds, CatalogueLatencies().network_seconds);
  EXPECT_GT(CatalogueLatencies().network_seconds, CatalogueLatencies().pcie_seconds);
  EXPECT_GT(CatalogueLatencies().pcie_seconds, CatalogueLatencies().nvlink_seconds);
  ASSERT_NE(FindInCatalogue("nvidia h100 80gb hbm3"), nullptr);
  EXPECT_EQ(FindInCatalogue("nvidia h100 80gb hbm3")->name, "H100-80GB");
  EXPECT_EQ(FindInCatalogue("H100"), nullptr);  // one of several
}

// Of the makers' data sheets: GiB in all (by nvidia-smi), GB/s of memory, and bf16 TFLOP/s.
TEST(CatalogueTest, HasTheFiguresOfDataSheets) {
  struct Figures {
    const char *name, *reported;
    double gib, gb_per_second, bf16;
  };
  for (const Figures& wanted : std::vector<Figures>{
           {"RTX3080-10GB", "NVIDIA GeForce RTX 3080", 10, 760, 59.5},
           {"RTX3090Ti", "NVIDIA GeForce RTX 3090 Ti", 24, 1008, 80},
           {"RTX4070Ti", "NVIDIA GeForce RTX 4070 Ti", 12, 504, 80.2},
           {"A30", "NVIDIA A30", 24, 933, 165},
           {"A40", "NVIDIA A40", 45, 696, 149.7},
           {"L40", "NVIDIA L40", 45, 864, 181},
           {"H20", "NVIDIA H20", 95.6, 4000, 148},
           {"B300-288GB", "NVIDIA B300 SXM6 AC", 268.6, 7700, 2250},
           {"RTX-PRO-6000-Blackwell", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 95.6, 1792, 503.8}}) {
    SCOPED_TRACE(wanted.name);
    const CatalogueDevice* device = FindInCatalogue(wanted.name);
    ASSERT_NE(device, nullptr);
    EXPECT_EQ(device, FindInCatalogue(wanted.reported));
    EXPECT_NEAR(static_cast<double>(device->memory_bytes) / (1 << 30), wanted.gib, 0.05);
    EXPECT_DOUBLE_EQ(device->memory_bytes_per_second, wanted.gb_per_second * 1e9);
    EXPECT_DOUBLE_EQ(device->flops.at(DType::kBF16), wanted.bf16 * 1e12);
  }
}

TEST(CatalogueTest, FleetsAreNumberedThrough) {
  const absl::StatusOr<std::vector<Device>> devices = Parsed("2xRTX4090, a6000");
  ASSERT_TRUE(devices.ok()) << devices.status();
  ASSERT_EQ(devices->size(), 3u);
  EXPECT_EQ((*devices)[1].name, "cuda:1");
  EXPECT_EQ((*devices)[1].kind, DeviceKind::kCuda);
  EXPECT_EQ((*devices)[1].memory_bytes, int64_t{24564} << 20);
  EXPECT_EQ((*devices)[2].id, 2);
  EXPECT_EQ((*devices)[2].model, "A6000");
  EXPECT_FALSE((*devices)[2].at_hand);
}

TEST(CatalogueTest, WhatIsNotInItIsRefusedWithWhatIs) {
  const auto error = [](absl::string_view text) { return std::string(Parsed(text).status().message()); };
  EXPECT_THAT(error("8xH900"), AllOf(HasSubstr("\"H900\""), HasSubstr("H100-80GB"), HasSubstr("RTX4090")));
  EXPECT_THAT(error("0xA100-80GB"), HasSubstr("\"0\" is not a number of devices"));
  EXPECT_THAT(error("2000xL4"), HasSubstr("1024"));
  EXPECT_THAT(error("2xL4,cpu"), HasSubstr("\"cpu\""));
}

}  // namespace
}  // namespace causeway
