// Device maps written by hand: module prefix -> device.
#ifndef CAUSEWAY_ENGINE_PLAN_CUSTOM_MAP_H_
#define CAUSEWAY_ENGINE_PLAN_CUSTOM_MAP_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/plan/device.h"
#include "engine/plan/module_sizes.h"

namespace causeway {

// A map of prefix to device as written, with devices as keys ("0", "cpu", "disk") and checked: each prefix names a
// module or tensor, each device is at hand (cpu and disk pass, as tiers of offload), no block is divided over devices,
// every parameter is covered (a tied weight without an entry follows its source). InvalidArgument lists the faults, of
// many the first.
absl::StatusOr<std::map<std::string, std::string>> CheckCustomMap(const ModuleIndex& index,
                                                                  absl::Span<const Device> devices,
                                                                  const std::map<std::string, std::string>& custom);

// The device that a map or flag means by `text`: its key, its name, or "cuda" for the first CUDA device. Null: none.
const Device* FindDevice(absl::Span<const Device> devices, absl::string_view text);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_CUSTOM_MAP_H_
