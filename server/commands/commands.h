// The daemon's commands. Each takes the arguments after its name and returns the exit status.
#ifndef CAUSEWAY_SERVER_COMMANDS_COMMANDS_H_
#define CAUSEWAY_SERVER_COMMANDS_COMMANDS_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/startup/command_line.h"
#include "server/startup/load_config.h"

namespace causeway {

int ServeCommand(const std::vector<std::string>& arguments);
int WorkerCommand(const std::vector<std::string>& arguments);
int PlanCommand(const std::vector<std::string>& arguments);
int GraphCommand(const std::vector<std::string>& arguments);
int DoctorCommand(const std::vector<std::string>& arguments);
int BenchCommand(const std::vector<std::string>& arguments);

// What every command begins with: flags, then the whole configuration, then logging. `exit` is set when the command is
// over already: --help was asked for, or an error has been written to standard error. `sets_itself` names fields that
// the command sets whatever the configuration says: it has no flags for them.
struct CommandStart {
  LoadedConfig loaded;
  ReadConfig read_again;  // the same sources, as they are by then; null where there is no --config FILE
  int exit = -1;
};
CommandStart StartCommand(const std::string& name, const std::string& what, const std::vector<std::string>& arguments,
                          std::vector<CommandFlag> own, const std::set<std::string>& sets_itself = {},
                          ModelPath model = ModelPath::kRequired);

// Starts the trace that execution.profile asks for, if any. InvalidArgument: the file cannot be written.
absl::Status StartProfile(const LoadedConfig& loaded);
// Ends it. Says on standard error what it lacks.
void StopProfile();

// Writes the error to standard error and returns the exit status: kExitConfig for an InvalidArgument, else 1.
int Fail(const absl::Status& status);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_COMMANDS_COMMANDS_H_
