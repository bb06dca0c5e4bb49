// {"grpc": "host:port", "http": "host:port"}: how scripts and tests learn of ports that were picked.
#ifndef CAUSEWAY_SERVER_DAEMON_PORTS_FILE_H_
#define CAUSEWAY_SERVER_DAEMON_PORTS_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace causeway {

// Removes what an earlier run left, which would send readers to the wrong place, and tries whether the new one can be
// written there: loading, which comes in between, may take minutes.
absl::Status ClearPortsFile(const std::string& path);

// Atomically: a reader finds no file or a whole one. `http` may be empty and is then left out.
absl::Status WritePortsFile(const std::string& path, const std::string& grpc, const std::string& http);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DAEMON_PORTS_FILE_H_
