// The whole configuration: flag over environment over file over default.
#ifndef CAUSEWAY_SERVER_STARTUP_LOAD_CONFIG_H_
#define CAUSEWAY_SERVER_STARTUP_LOAD_CONFIG_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "causeway/v1/config.pb.h"
#include "server/startup/command_line.h"

namespace causeway {

// sysexits.h's, as exit statuses.
inline constexpr int kExitUsage = 64;
inline constexpr int kExitConfig = 78;

struct LoadedConfig {
  v1::Config config;
  std::map<std::string, std::string>
      origins;  // field path -> "--flag", "CAUSEWAY_...", "FILE:LINE"; absent: the default

  // "FILE:LINE: batching.kv_cache", "--kv-cache": the beginning of a message about a value.
  std::string Where(const std::string& path) const;
};

enum class ModelPath { kRequired, kOptional };

// `file` may be empty; `environment` is name -> value. InvalidArgument and NotFound say where and what.
absl::StatusOr<LoadedConfig> LoadConfig(const std::string& file, const std::map<std::string, std::string>& environment,
                                        const CommandLine& flags, ModelPath model = ModelPath::kRequired);

// The process's variables.
std::map<std::string, std::string> Environment();

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_LOAD_CONFIG_H_
