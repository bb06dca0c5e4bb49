#include <cstdio>

#include "absl/strings/str_cat.h"
#include "engine/base/trace.h"
#include "server/commands/commands.h"
#include "server/telemetry/log.h"

namespace causeway {

int Fail(const absl::Status& status) {
  FlushLog();  // what was logged before comes first
  std::fprintf(stderr, "causewayd: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? kExitConfig : 1;
}

CommandStart StartCommand(const std::string& name, const std::string& what, const std::vector<std::string>& arguments,
                          std::vector<CommandFlag> own, const std::set<std::string>& sets_itself, ModelPath model) {
  CommandStart start;
  std::string file;
  own.push_back(
      {"config", "FILE",
       "YAML file with the fields below; flags and environment variables (CAUSEWAY_SECTION_FIELD) go before it.",
       &file});
  const std::string help = FlagHelp(own, sets_itself);  // made before parsing changes the defaults
  absl::StatusOr<CommandLine> line = ParseCommandLine(arguments, own);
  for (size_t i = 0; line.ok() && i < line->fields.size(); ++i) {
    const std::string flag = line->fields[i].first->flag();
    if (sets_itself.contains(flag))
      line = absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", name, " sets this itself"));
  }
  if (!line.ok()) {
    std::fprintf(stderr, "causewayd: %s\nTry causewayd %s --help.\n", std::string(line.status().message()).c_str(),
                 name.c_str());
    start.exit = kExitUsage;
    return start;
  }
  if (line->help) {
    std::printf("causewayd %s: %s\n\nusage: causewayd %s %s [flags]\n\n%s", name.c_str(), what.c_str(), name.c_str(),
                model == ModelPath::kRequired ? "--model DIR" : "[--model DIR]", help.c_str());
    start.exit = 0;
    return start;
  }
  absl::StatusOr<LoadedConfig> loaded = LoadConfig(file, Environment(), *line, model);
  if (!loaded.ok()) {
    std::fprintf(stderr, "causewayd: %s\n", std::string(loaded.status().message()).c_str());
    start.exit = kExitConfig;
    return start;
  }
  start.loaded = *std::move(loaded);
  if (!file.empty())
    start.read_again = [file, flags = *line, model] { return LoadConfig(file, Environment(), flags, model); };
  SetUpLogging(start.loaded.config.log().level(), start.loaded.config.log().format());
  return start;
}

absl::Status StartProfile(const LoadedConfig& loaded) {
  const std::string& path = loaded.config.execution().profile();
  if (path.empty()) return absl::OkStatus();
  const absl::Status status = Trace::Start(path);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(loaded.Where("execution.profile"), ": ", status.message()));
}

void StopProfile() {
  if (const absl::Status status = Trace::Stop(); !status.ok()) Fail(status);
}

}  // namespace causeway
