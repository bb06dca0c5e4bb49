// Whole texts, from files and standard input, and plain words where one cannot be read. The byte order mark that some
// editors and shells put in front is no part of a text.
#ifndef CAUSEWAY_CLIENT_READ_FILE_H_
#define CAUSEWAY_CLIENT_READ_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

// InvalidArgument says why `path` cannot be read: it is a directory, for instance.
absl::StatusOr<std::string> ReadFile(const std::string& path);
// All that comes until its end.
absl::StatusOr<std::string> ReadStandardInput();

// The text without the byte order mark that it may begin with.
absl::string_view WithoutByteOrderMark(absl::string_view text);
// The text without the newline at its end: the one that echo has added.
absl::string_view WithoutLastNewline(absl::string_view text);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_READ_FILE_H_
