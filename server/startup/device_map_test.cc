#include "server/startup/device_map.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(DeviceMap, APolicyOrADeviceIsThePlanners) {
  for (const char* text : {"auto", "balanced", "0", "cuda:0", "[0]"}) {
    PlanOptions plan;
    ASSERT_TRUE(SetDeviceMap(text, &plan).ok()) << text;
    EXPECT_EQ(plan.device_map, text);
    EXPECT_THAT(plan.custom_map, IsEmpty());
  }
}

TEST(DeviceMap, AMapHasNumbersAndNames) {
  const std::string json = R"({"model": 0, "lm_head": "cuda:1", "": "cpu"})";
  const std::filesystem::path file =
      std::filesystem::path(::testing::TempDir()) / absl::StrCat("map-", ::getpid(), ".json");
  std::ofstream(file) << json;
  for (const std::string& text : {json, file.string()}) {
    PlanOptions plan;
    ASSERT_TRUE(SetDeviceMap(text, &plan).ok()) << text;
    EXPECT_EQ(plan.device_map, "custom");
    EXPECT_THAT(plan.custom_map, UnorderedElementsAre(Pair("model", "0"), Pair("lm_head", "cuda:1"), Pair("", "cpu")));
  }
  std::filesystem::remove(file);
}

TEST(DeviceMap, RefusesOtherThings) {
  const auto error = [](const std::string& text) {
    PlanOptions plan;
    return std::string(SetDeviceMap(text, &plan).message());
  };
  EXPECT_THAT(error("{}"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(error("{\"a\": 1.5}"), AllOf(HasSubstr("\"a\""), HasSubstr("1.5")));
  EXPECT_THAT(error("{\"a\": -1}"), HasSubstr("-1"));
  EXPECT_THAT(error("{\"a\": null}"), HasSubstr("null"));
  EXPECT_THAT(error("{\"a\": 0"), HasSubstr("the device map"));
  EXPECT_THAT(error("/nowhere/map.json"), HasSubstr("/nowhere/map.json"));
}

}  // namespace
}  // namespace causeway
