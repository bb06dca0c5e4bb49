#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/engine.h"
#include "engine/threads/processors.h"
#include "server/commands/calibrate.h"
#include "server/commands/commands.h"
#include "server/commands/search.h"
#include "server/startup/engine_options.h"

namespace causeway {
namespace {

absl::Status CheckFlags(bool search, bool calibrate, const SearchFlags& flags, const std::string& format) {
  if (search && calibrate) return absl::InvalidArgumentError("--search and --calibrate: one at a time");
  if (format != "table" && format != "json" && format != "markdown" && !(search && format == "csv")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--format: expected table, json or markdown, or csv with --search, got \"", format, "\""));
  }
  if (calibrate && format == "markdown")
    return absl::InvalidArgumentError("--format: expected table or json with --calibrate, got \"markdown\"");
  SearchFlags others = flags;
  if (calibrate) others.calibration.clear();
  if (const std::string given = others.Given(); !search && !given.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(given, given == "--calibration" ? " is for --search and --calibrate" : " is for --search"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> PlanText(const LoadedConfig& loaded, const std::string& format) {
  CAUSEWAY_ASSIGN_OR_RETURN(const EngineOptions options, MakeEngineOptions(loaded));
  CAUSEWAY_ASSIGN_OR_RETURN(const PlacedModel placed, PlaceModel(options, Purpose::kPlanning));
  for (const std::string& warning : placed.spec.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  if (format == "json") return PlanJson(placed.plan) + "\n";
  if (format == "markdown") return PlanMarkdown(placed.plan) + "\n";
  // The processors of a fleet that is not there are not this machine's.
  const bool at_hand = placed.plan.devices.front().device.at_hand;
  const std::string processors = at_hand ? absl::StrCat("Processors: ", ThisMachine().text(), ".\n") : "";
  return absl::StrCat(PlanTable(placed.plan, isatty(STDOUT_FILENO) == 1), processors, "\n");
}

}  // namespace

int PlanCommand(const std::vector<std::string>& arguments) {
  std::string format = "table", search, calibrate;
  SearchFlags search_flags;
  std::vector<CommandFlag> flags = {
      {"format", "table|json|markdown|csv", "How it is printed; csv is for --search.", &format},
      {"search", "",
       "Ranks all ways to spread the model over the devices: replicas, stages, tensor parallelism, micro-batches, "
       "offload.",
       &search},
      {"calibrate", "",
       "Measures the device, keeps its speeds for --search, and holds predictions against the model's steps.",
       &calibrate}};
  for (CommandFlag& flag : search_flags.Flags()) flags.push_back(std::move(flag));
  CommandStart start =
      StartCommand("plan", "shows where every part of a model would live, without loading it", arguments, flags);
  if (start.exit >= 0) return start.exit;
  if (absl::Status status = CheckFlags(!search.empty(), !calibrate.empty(), search_flags, format); !status.ok()) {
    std::fprintf(stderr, "causewayd: %s\n", std::string(status.message()).c_str());
    return kExitUsage;
  }
  absl::StatusOr<std::string> text = !search.empty() ? RunSearch(start.loaded, search_flags, format)
                                     : !calibrate.empty()
                                         ? RunCalibration(start.loaded, search_flags.calibration, format)
                                         : PlanText(start.loaded, format);
  if (!text.ok()) return Fail(text.status());
  std::printf("%s", text->c_str());
  return 0;
}

}  // namespace causeway
