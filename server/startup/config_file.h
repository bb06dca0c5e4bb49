// The YAML file: two levels, sections and fields, checked against the schema.
#ifndef CAUSEWAY_SERVER_STARTUP_CONFIG_FILE_H_
#define CAUSEWAY_SERVER_STARTUP_CONFIG_FILE_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "causeway/v1/config.pb.h"

namespace causeway {

inline constexpr size_t kConfigFileBytesMax = 1 << 20;

// Sets what the file sets; `origins` gets "FILE:LINE" for each field's path. InvalidArgument says "FILE:LINE: FIELD:
// expected WHAT, got WHAT" for unknown sections and fields, wrong types, values out of range, keys given twice and
// broken YAML. NotFound: there is no such file.
absl::Status ReadConfigFile(const std::string& file, v1::Config* config, std::map<std::string, std::string>* origins);

// Does what ReadConfigFile does, for a text; `file` is its name in messages.
absl::Status ReadConfigText(const std::string& text, const std::string& file, v1::Config* config,
                            std::map<std::string, std::string>* origins);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_CONFIG_FILE_H_
