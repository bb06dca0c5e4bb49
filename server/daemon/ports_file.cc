#include "server/daemon/ports_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace causeway {

absl::Status WritePortsFile(const std::string& path, const std::string& grpc, const std::string& http) {
  nlohmann::ordered_json ports = {{"grpc", grpc}};
  if (!http.empty()) ports["http"] = http;
  const std::string fresh = absl::StrCat(path, ".", getpid());
  errno = 0;
  std::ofstream out(fresh, std::ios::trunc);
  out << ports.dump() << "\n";
  out.close();
  if (!out || std::rename(fresh.c_str(), path.c_str()) != 0) {
    const absl::Status status = absl::InternalError(absl::StrCat("cannot write the ports file ", path, ": ", std::strerror(errno)));
    std::remove(fresh.c_str());
    return status;
  }
  return absl::OkStatus();
}

}  // namespace causeway
