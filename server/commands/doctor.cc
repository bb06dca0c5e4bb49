#include "server/doctor/doctor.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <iterator>
#include <utility>

#include "server/commands/commands.h"
#include "server/startup/engine_options.h"

namespace causeway {
namespace {

size_t TerminalWidth() {
  winsize size{};
  return isatty(STDOUT_FILENO) == 1 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 40 ? size.ws_col
                                                                                                        : 120;
}

}  // namespace

int DoctorCommand(const std::vector<std::string>& arguments) {
  std::string format = "table";
  CommandStart start =
      StartCommand("doctor", "says whether this machine is ready to serve, with or without a model in mind", arguments,
                   {{"format", "table|json", "How the findings are printed.", &format}}, {}, ModelPath::kOptional);
  if (start.exit >= 0) return start.exit;
  if (format != "table" && format != "json") {
    std::fprintf(stderr, "causewayd: --format: expected table or json, got \"%s\"\n", format.c_str());
    return kExitUsage;
  }
  const absl::StatusOr<EngineOptions> options = MakeEngineOptions(start.loaded);
  if (!options.ok()) return Fail(options.status());
  std::vector<Finding> findings = ExamineMachine("", options->executor.cpu_threads);
  const auto add = [&findings](std::vector<Finding> more) {
    std::move(more.begin(), more.end(), std::back_inserter(findings));
  };
  add(ExamineDevices());
  add({ExamineFleet(*options)});
  add(ExamineAddresses(start.loaded.config.server()));
  if (const std::string& folder = start.loaded.config.placement().offload_folder(); !folder.empty()) {
    add({ExamineOffloadFolder(folder, kOffloadSampleBytes)});
  }
  if (!options->model.empty()) add(ExamineModel(*options));
  std::fputs((format == "json" ? DoctorJson(findings) : DoctorTable(findings, TerminalWidth())).c_str(), stdout);
  return Worst(findings) == Grade::kProblem ? 1 : 0;
}

}  // namespace causeway
