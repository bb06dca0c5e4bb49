// The commands of `causeway`, each added to the command line by one function. A command's exit status is its callback's
// result.
#ifndef CAUSEWAY_CLIENT_COMMANDS_H_
#define CAUSEWAY_CLIENT_COMMANDS_H_

#include <functional>
#include <memory>
#include <string>

#include "client/client.h"

namespace CLI {
class App;
}

namespace causeway {

// What all commands share. It is filled when the command line is parsed, before a command runs.
struct Globals {
  std::string server = "127.0.0.1:50051";
  std::function<int()> run;  // the chosen command
};

void AddGenerate(CLI::App& app, Globals& globals);
void AddChat(CLI::App& app, Globals& globals);
void AddStatus(CLI::App& app, Globals& globals);
void AddPlan(CLI::App& app, Globals& globals);
void AddLayers(CLI::App& app, Globals& globals);
void AddBench(CLI::App& app, Globals& globals);

// Prints "causeway: MESSAGE" and returns the exit status: 69 (unavailable) when no daemon answers, 64 (usage) when the
// daemon refused the request as invalid, else 1.
int Fail(const absl::Status& status);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_COMMANDS_H_
