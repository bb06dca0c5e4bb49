#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "client/commands.h"

int main(int argc, char** argv) {
  CLI::App app("Talks to a Causeway daemon.", "causeway");
  causeway::Globals globals;
  app.add_option("--server", globals.server, "The daemon's gRPC address")->envname("CAUSEWAY_SERVER")->capture_default_str();
  app.require_subcommand(1);
  app.fallthrough();
  causeway::AddGenerate(app, globals);
  causeway::AddChat(app, globals);
  causeway::AddStatus(app, globals);
  causeway::AddBench(app, globals);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  return globals.run();
}
