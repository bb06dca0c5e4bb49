#include "server/daemon/ports_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

absl::Status Failure(const std::string& path) {
  return absl::InternalError(absl::StrCat("cannot write the ports file ", path, ": ", std::strerror(errno)));
}

// A path beside the ports file. The file is renamed to the ports file later.
std::string FreshPath(const std::string& path) { return absl::StrCat(path, ".", getpid()); }

absl::Status WriteFresh(const std::string& path, const std::string& text) {
  const std::string fresh = FreshPath(path);
  errno = 0;
  std::ofstream out(fresh, std::ios::trunc);
  out << text << std::flush;
  if (out) return absl::OkStatus();
  const absl::Status status = Failure(path);
  std::remove(fresh.c_str());
  return status;
}

}  // namespace

absl::Status ClearPortsFile(const std::string& path) {
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ports file ", path, " is a folder or a device; expected a file's name"));
  }
  CAUSEWAY_RETURN_IF_ERROR(WriteFresh(path, ""));
  std::remove(FreshPath(path).c_str());
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return Failure(path);
  return absl::OkStatus();
}

absl::Status WritePortsFile(const std::string& path, const std::string& grpc, const std::string& http) {
  nlohmann::ordered_json ports = {{"grpc", grpc}};
  if (!http.empty()) ports["http"] = http;
  CAUSEWAY_RETURN_IF_ERROR(WriteFresh(path, absl::StrCat(ports.dump(), "\n")));
  if (std::rename(FreshPath(path).c_str(), path.c_str()) == 0) return absl::OkStatus();
  const absl::Status status = Failure(path);
  std::remove(FreshPath(path).c_str());
  return status;
}

}  // namespace causeway
