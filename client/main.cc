#include <iostream>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "client/check.h"
#include "client/commands.h"

int main(int argc, char** argv) {
  CLI::App app("Talks to a Causeway daemon.", "causeway");
  causeway::Globals globals;
  app.add_option("--server", globals.server, "The daemon's gRPC address, HOST:PORT")
      ->envname("CAUSEWAY_SERVER")
      ->check([](const std::string& address) { return std::string(causeway::CheckAddress(address).message()); })
      ->capture_default_str();
  app.set_version_flag("--version", "causeway " CAUSEWAY_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  causeway::AddGenerate(app, globals);
  causeway::AddChat(app, globals);
  causeway::AddStatus(app, globals);
  causeway::AddPlan(app, globals);
  causeway::AddLayers(app, globals);
  causeway::AddBench(app, globals);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    // CLI11 says only that a command is missing.
    const std::vector<std::string> unknown = app.remaining();
    if (!app.get_subcommands().empty() || unknown.empty()) return app.exit(error) == 0 ? 0 : 64;
    std::cerr << "causeway: unknown command \"" << unknown.front()
              << "\"; expected generate, chat, status, plan, layers or bench\n";
    return 64;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  return globals.run();
}
