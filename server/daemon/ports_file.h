// {"grpc": "host:port", "http": "host:port"}: tells scripts and tests which ports were picked.
#ifndef CAUSEWAY_SERVER_DAEMON_PORTS_FILE_H_
#define CAUSEWAY_SERVER_DAEMON_PORTS_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace causeway {

// Removes what an earlier run left, which would send readers to the wrong place. Tests whether the new file can be
// written there: loading comes in between and may take minutes.
absl::Status ClearPortsFile(const std::string& path);

// Writes it atomically: a reader finds no file or a whole one. `http` may be empty and is then left out.
absl::Status WritePortsFile(const std::string& path, const std::string& grpc, const std::string& http);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DAEMON_PORTS_FILE_H_
