// Reads whole files, and says in plain words why one cannot be read.
#ifndef CAUSEWAY_CLIENT_READ_FILE_H_
#define CAUSEWAY_CLIENT_READ_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace causeway {

// InvalidArgument says why `path` cannot be read: it is a directory, for instance.
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_READ_FILE_H_
