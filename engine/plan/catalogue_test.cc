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
