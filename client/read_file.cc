#include "client/read_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace causeway {

namespace {

// `error` is 0, or why `file` could not be opened.
absl::StatusOr<std::string> ReadAll(std::FILE* file, int error, absl::string_view name) {
  std::string text;
  if (file != nullptr) {
    char buffer[1 << 16];
    for (size_t got; (got = std::fread(buffer, 1, sizeof(buffer), file)) > 0;) text.append(buffer, got);
    if (std::ferror(file) != 0) error = errno;
  }
  if (error == 0) return std::string(WithoutByteOrderMark(text));
  return absl::InvalidArgumentError(absl::StrCat(name, " cannot be read: ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  const int error = file == nullptr ? errno : 0;
  absl::StatusOr<std::string> text = ReadAll(file, error, absl::StrCat("\"", path, "\""));
  if (file != nullptr) std::fclose(file);
  return text;
}

absl::StatusOr<std::string> ReadStandardInput() { return ReadAll(stdin, 0, "standard input"); }

absl::string_view WithoutByteOrderMark(absl::string_view text) { return absl::StripPrefix(text, "\xef\xbb\xbf"); }

absl::string_view WithoutLastNewline(absl::string_view text) {
  if (absl::ConsumeSuffix(&text, "\n")) absl::ConsumeSuffix(&text, "\r");
  return text;
}

}  // namespace causeway
