// The whole configuration: a flag wins over the environment, that over the file, and that over the default.
#ifndef CAUSEWAY_SERVER_STARTUP_LOAD_CONFIG_H_
#define CAUSEWAY_SERVER_STARTUP_LOAD_CONFIG_H_

#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "causeway/v1/config.pb.h"
#include "server/startup/command_line.h"

namespace causeway {

// The exit statuses of sysexits.h.
inline constexpr int kExitUsage = 64;
inline constexpr int kExitConfig = 78;

struct LoadedConfig {
  v1::Config config;
  std::map<std::string, std::string>
      origins;  // field path -> "--flag", "CAUSEWAY_...", "FILE:LINE"; absent: the default

  // The beginning of a message about a value: "FILE:LINE: batching.kv_cache", "--kv-cache".
  std::string Where(const std::string& path) const;
};

using ReadConfig = std::function<absl::StatusOr<LoadedConfig>()>;

enum class ModelPath { kRequired, kOptional };

// `file` may be empty; `environment` is name -> value, and an empty value counts as none. InvalidArgument and NotFound
// say where and what.
absl::StatusOr<LoadedConfig> LoadConfig(const std::string& file, const std::map<std::string, std::string>& environment,
                                        const CommandLine& flags, ModelPath model = ModelPath::kRequired);

// The process's environment variables.
std::map<std::string, std::string> Environment();

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_LOAD_CONFIG_H_
