// The file that keeps measured speeds between commands.
#ifndef CAUSEWAY_SERVER_COMMANDS_CALIBRATION_FILE_H_
#define CAUSEWAY_SERVER_COMMANDS_CALIBRATION_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/strategy/calibration.h"

namespace causeway {

// causeway/calibration.json in $XDG_CACHE_HOME, or in ~/.cache; empty where the environment has neither.
std::string DefaultCalibrationFile();

// Reads the default file if `file` is empty; returns nothing if that is not there. NotFound: `file` is not there.
absl::StatusOr<Calibration> ReadCalibrationFile(const std::string& file);
// Makes the folder. Other devices' entries in the file stay.
absl::Status WriteCalibrationFile(const std::string& file, const Calibration& calibration);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_COMMANDS_CALIBRATION_FILE_H_
