// Flags: those of the configuration's fields, and a command's own.
#ifndef CAUSEWAY_SERVER_STARTUP_COMMAND_LINE_H_
#define CAUSEWAY_SERVER_STARTUP_COMMAND_LINE_H_

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/startup/fields.h"

namespace causeway {

// A flag that is no configuration field: --config, --format, ...
struct CommandFlag {
  std::string name;
  std::string value;  // the name of its value in --help; empty: it takes none, and sets `target` to "true"
  std::string help;
  std::string* target;  // holds the default before parsing
};

struct CommandLine {
  bool help = false;
  std::vector<std::pair<const ConfigField*, std::string>> fields;  // in the order given, with values checked
};

// Takes --flag VALUE and --flag=VALUE; --flag and --no-flag for a true-or-false one. InvalidArgument: an unknown flag
// (with the nearest known one), a missing or wrong value, an argument that is no flag.
absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& arguments,
                                             const std::vector<CommandFlag>& own);

// Lists the command's own flags, then every field with its default, by section, without those in `left_out`.
std::string FlagHelp(const std::vector<CommandFlag>& own, const std::set<std::string>& left_out = {});

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_COMMAND_LINE_H_
