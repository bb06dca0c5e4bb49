#include "client/read_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace causeway {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::string text;
  int error = 0;
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) {
    error = errno;
  } else {
    char buffer[1 << 16];
    for (size_t got; (got = std::fread(buffer, 1, sizeof(buffer), file)) > 0;) text.append(buffer, got);
    if (std::ferror(file) != 0) error = errno;
    std::fclose(file);
  }
  if (error == 0) return text;
  return absl::InvalidArgumentError(absl::StrCat("\"", path, "\" cannot be read: ", std::strerror(error)));
}

}  // namespace causeway
