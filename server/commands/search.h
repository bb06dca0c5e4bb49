// `causewayd plan --search`: all ways to spread a model over a fleet, ranked, and a configuration for the best one that
// can be served.
#ifndef CAUSEWAY_SERVER_COMMANDS_SEARCH_H_
#define CAUSEWAY_SERVER_COMMANDS_SEARCH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/strategy/report.h"
#include "server/startup/command_line.h"
#include "server/startup/load_config.h"

namespace causeway {

// The flags as given; empty where one is not given.
struct SearchFlags {
  std::string prompt_tokens, output_tokens, concurrency, max_ttft_ms, max_tpot_ms, nodes, network, calibration,
      config_out;

  std::vector<CommandFlag> Flags();
  // The first flag that is given, "--nodes"; empty: none.
  std::string Given() const;
};

// Returns the text for standard output, in the format (table, json, markdown or csv).
absl::StatusOr<std::string> RunSearch(const LoadedConfig& loaded, const SearchFlags& flags, const std::string& format);

// Returns a YAML file for `copies` replicas of the best strategy that can be served, alike and from `replica` on: what
// was configured, and the placement. `spec` is the model as the devices hold it. FailedPrecondition: a plan refuses it.
absl::StatusOr<std::string> StrategyConfig(const LoadedConfig& loaded, const EngineOptions& options,
                                           const ModelSpec& spec, const SearchReport& report, int replica, int copies);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_COMMANDS_SEARCH_H_
