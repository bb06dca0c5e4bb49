#include <unistd.h>

#include <iostream>
#include <memory>
#include <utility>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_format.h"
#include "client/commands.h"
#include "client/options.h"
#include "client/status_text.h"

namespace causeway {
namespace {

std::string ModelText(const v1::GetModelResponse& model) {
  return absl::StrFormat("%s: %d layers, hidden %d, vocabulary %d, %.1f M parameters, %s, up to %d tokens\n",
                         model.architecture(), model.layers(), model.hidden_size(), model.vocab_size(),
                         model.parameters() / 1e6, model.dtype(), model.max_model_len());
}

struct StatusFlags {
  bool watch = false;
  double interval = 1;
  std::string format = "text";
};

int RunStatus(Client& client, const StatusFlags& flags) {
  const bool color = isatty(STDOUT_FILENO);
  const auto json = [](const v1::GetStatusResponse& status, bool pretty) {
    std::string text;
    google::protobuf::util::JsonPrintOptions print;
    print.add_whitespace = pretty;
    print.always_print_primitive_fields = true;
    print.preserve_proto_field_names = true;
    (void)google::protobuf::util::MessageToJsonString(status, &text, print);  // cannot fail for our own message
    return text;
  };
  if (flags.watch) {
    bool first = true;
    const absl::Status status = client.WatchStatus(flags.interval, [&](const v1::GetStatusResponse& now) {
      if (flags.format == "json") {
        std::cout << json(now, false) << "\n" << std::flush;
      } else {
        std::cout << (color ? Redraw(StatusText(now, color), std::exchange(first, false))
                            : StatusText(now, color) + "\n")
                  << std::flush;
      }
      return std::cout.good();
    });
    return status.ok() ? 0 : Fail(status);
  }
  const absl::StatusOr<v1::GetStatusResponse> status = client.GetStatus({.timeout = absl::Seconds(10)});
  if (!status.ok()) return Fail(status.status());
  if (flags.format == "json") {
    std::cout << json(*status, true);
    return 0;
  }
  std::cout << StatusText(*status, color);
  const auto model = client.GetModel({.timeout = absl::Seconds(10)});
  if (model.ok()) std::cout << "\n" << ModelText(*model);
  return 0;
}

}  // namespace

void AddStatus(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand("status", "Shows the model, the plan, memory by device, and the queue");
  auto flags = std::make_shared<StatusFlags>();
  command->add_flag("-w,--watch", flags->watch, "Shows it again and again");
  command->add_option("--interval", flags->interval, "Seconds between two, with --watch")
      ->check(NumberBetween(0.1, 60));
  command->add_option("--format", flags->format, "text or json")->check(CLI::IsMember({"text", "json"}));
  command->callback([flags, &globals] {
    globals.run = [flags, &globals] {
      Client client(globals.server);
      return RunStatus(client, *flags);
    };
  });
}

}  // namespace causeway
