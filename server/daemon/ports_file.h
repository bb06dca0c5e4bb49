// {"grpc": "host:port", "http": "host:port"}: how scripts and tests learn of ports that were picked.
#ifndef CAUSEWAY_SERVER_DAEMON_PORTS_FILE_H_
#define CAUSEWAY_SERVER_DAEMON_PORTS_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace causeway {

// Atomically: a reader finds no file or a whole one. `http` may be empty and is then left out.
absl::Status WritePortsFile(const std::string& path, const std::string& grpc, const std::string& http);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DAEMON_PORTS_FILE_H_
