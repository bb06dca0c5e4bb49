#include <unistd.h>

#include <cstdio>

#include "engine/engine.h"
#include "server/commands/commands.h"
#include "server/startup/engine_options.h"

namespace causeway {

int PlanCommand(const std::vector<std::string>& arguments) {
  std::string format = "table";
  CommandStart start = StartCommand("plan", "shows where every part of a model would live, without loading it", arguments,
                                    {{"format", "table|json|markdown", "How the plan is printed.", &format}});
  if (start.exit >= 0) return start.exit;
  if (format != "table" && format != "json" && format != "markdown") {
    std::fprintf(stderr, "causewayd: --format: expected table, json or markdown, got \"%s\"\n", format.c_str());
    return kExitUsage;
  }
  absl::StatusOr<EngineOptions> options = MakeEngineOptions(start.loaded);
  if (!options.ok()) return Fail(options.status());
  absl::StatusOr<PlacedModel> placed = PlaceModel(*options, Purpose::kPlanning);
  if (!placed.ok()) return Fail(placed.status());
  for (const std::string& warning : placed->spec.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  const std::string text = format == "json"       ? PlanJson(placed->plan)
                           : format == "markdown" ? PlanMarkdown(placed->plan)
                                                  : PlanTable(placed->plan, isatty(STDOUT_FILENO) == 1);
  std::printf("%s\n", text.c_str());
  return 0;
}

}  // namespace causeway
