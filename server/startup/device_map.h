// The option device_map, read.
#ifndef CAUSEWAY_SERVER_STARTUP_DEVICE_MAP_H_
#define CAUSEWAY_SERVER_STARTUP_DEVICE_MAP_H_

#include <string>

#include "absl/status/status.h"
#include "engine/plan/plan.h"

namespace causeway {

// `text`: a policy or one device; a map {"model.embed_tokens": 0, "model.layers": "1", "": "cpu"}; or the path of a
// file with one (it has a slash, or ends with .json). InvalidArgument: a map that is empty, or names a device that is
// neither text nor a whole number; the planner checks the rest. Others come from reading the file.
absl::Status SetDeviceMap(const std::string& text, PlanOptions* plan);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_DEVICE_MAP_H_
