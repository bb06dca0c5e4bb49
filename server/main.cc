#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "server/commands/commands.h"
#include "server/commands/process.h"
#include "server/startup/load_config.h"
#include "server/version.h"

namespace {

constexpr char kUsage[] =
    "causewayd serves large language models over gRPC.\n\n"
    "  causewayd serve --model DIR    load a model and serve it until SIGTERM\n"
    "  causewayd worker --model DIR   serve it together with another process that leads (docs/cluster.md)\n"
    "  causewayd plan --model DIR     show where every part of it would live, without loading it\n"
    "  causewayd graph --model DIR    show its layers, what goes between them, and how they make stages\n"
    "  causewayd doctor               say whether this machine is ready, and for --model DIR too\n"
    "  causewayd bench --model DIR    measure prefill and decode in this process\n"
    "  causewayd --version\n\n"
    "causewayd COMMAND --help lists the flags. docs/configuration.md describes the configuration file.\n";

}  // namespace

int main(int argc, char** argv) {
  causeway::PrepareProcess();
  const std::string command = argc > 1 ? argv[1] : "";
  const std::vector<std::string> arguments(argv + std::min(argc, 2), argv + argc);
  if (command == "serve") return causeway::ServeCommand(arguments);
  if (command == "worker") return causeway::WorkerCommand(arguments);
  if (command == "plan") return causeway::PlanCommand(arguments);
  if (command == "graph") return causeway::GraphCommand(arguments);
  if (command == "doctor") return causeway::DoctorCommand(arguments);
  if (command == "bench") return causeway::BenchCommand(arguments);
  if (command == "--version" || command == "version") {
    std::printf("causewayd %s (%s)\n", causeway::kVersion, causeway::kBuild);
    return 0;
  }
  if (command == "help" || command == "--help" || command == "-h") {
    std::fputs(kUsage, stdout);
    return 0;
  }
  if (command.empty()) {
    std::fputs(kUsage, stderr);
  } else {
    const std::string near = causeway::Suggestion(
        command, {"serve", "worker", "plan", "graph", "doctor", "bench", "help", "--version", "--help"});
    std::fprintf(stderr, "causewayd: unknown command %s%s\n\n%s", command.c_str(), near.c_str(), kUsage);
  }
  return causeway::kExitUsage;
}
