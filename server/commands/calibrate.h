// `causewayd plan --calibrate`: measures a device, and compares predictions with steps of a model that it runs.
#ifndef CAUSEWAY_SERVER_COMMANDS_CALIBRATE_H_
#define CAUSEWAY_SERVER_COMMANDS_CALIBRATE_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/startup/load_config.h"

namespace causeway {

// Writes what it measured to the calibration file (empty: the default one). Returns the text for standard output, as
// table or json. InvalidArgument: more than one device.
absl::StatusOr<std::string> RunCalibration(const LoadedConfig& loaded, const std::string& file,
                                           const std::string& format);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_COMMANDS_CALIBRATE_H_
