#include "server/startup/device_map.h"

#include <map>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/checkpoint/json.h"

namespace causeway {
namespace {

constexpr size_t kDeviceMapBytesMax = 16 << 20;  // MiniMax-M2, mapped expert by expert, is below 3 MB

// Prefix -> device as written.
absl::StatusOr<std::map<std::string, std::string>> ParseCustomMap(const Json& json) {
  if (!json.is_object() || json.empty()) {
    return absl::InvalidArgumentError(
        "expected a JSON object of module prefixes to devices, such as {\"model.layers.0\": 0}");
  }
  std::map<std::string, std::string> custom;
  for (const auto& [prefix, device] : json.items()) {
    if (device.is_string()) {
      custom[prefix] = device.get<std::string>();
    } else if (device.is_number_integer() && device >= 0) {
      custom[prefix] = device.dump();
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", prefix, "\": expected a device (0, \"cuda:0\", \"cpu\", \"disk\"), got ", JsonExcerpt(device)));
    }
  }
  return custom;
}

}  // namespace

absl::Status SetDeviceMap(const std::string& text, PlanOptions* plan) {
  if (!absl::StartsWith(text, "{") && !absl::EndsWith(text, ".json") && !absl::StrContains(text, '/')) {
    plan->device_map = text;  // a strategy or one device; the planner knows them
    return absl::OkStatus();
  }
  Json json;
  if (absl::StartsWith(text, "{")) {
    CAUSEWAY_ASSIGN_OR_RETURN(json, ParseJson(text, "the device map"));
  } else {
    CAUSEWAY_ASSIGN_OR_RETURN(json, ReadJsonFile(text, kDeviceMapBytesMax));
  }
  CAUSEWAY_ASSIGN_OR_RETURN(plan->custom_map, ParseCustomMap(json));
  plan->device_map = "custom";
  return absl::OkStatus();
}

}  // namespace causeway
