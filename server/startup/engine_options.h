// Turns the configuration message into what the engine takes.
#ifndef CAUSEWAY_SERVER_STARTUP_ENGINE_OPTIONS_H_
#define CAUSEWAY_SERVER_STARTUP_ENGINE_OPTIONS_H_

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/startup/load_config.h"

namespace causeway {

// Reads byte sizes, budgets and the device map (a JSON file, where it names one). InvalidArgument says where the value
// comes from.
absl::StatusOr<EngineOptions> MakeEngineOptions(const LoadedConfig& loaded);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_ENGINE_OPTIONS_H_
