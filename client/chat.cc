#include <unistd.h>

#include <iostream>
#include <memory>
#include <utility>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "client/commands.h"
#include "client/options.h"
#include "client/read_file.h"

namespace causeway {
namespace {

struct ChatFlags {
  std::string system;
  SamplingFlags sampling;
};

int RunChat(Client& client, const ChatFlags& flags) {
  const absl::StatusOr<v1::GetModelResponse> model = client.GetModel({.timeout = absl::Seconds(10)});
  if (!model.ok() && model.status().code() != absl::StatusCode::kPermissionDenied) return Fail(model.status());
  if (model.ok() && !model->has_chat_template()) {
    return Fail(absl::FailedPreconditionError(model->name() + " has no chat template; use `causeway generate`"));
  }
  v1::GenerateRequest request;
  if (const absl::Status filled = flags.sampling.Fill(request); !filled.ok()) return Fail(filled);
  const auto say = [&](const std::string& role, const std::string& content) {
    v1::ChatMessage& message = *request.mutable_chat()->add_messages();
    message.set_role(role);
    message.set_content(content);
  };
  const auto reset = [&] {
    request.mutable_chat()->clear_messages();
    if (!flags.system.empty()) say("system", flags.system);
  };
  reset();
  CallOptions options;
  if (flags.sampling.timeout_seconds > 0) options.timeout = absl::Seconds(flags.sampling.timeout_seconds);
  const bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  if (terminal) {
    std::cout << (model.ok() ? model->name() : "chat") << ". /reset forgets the conversation, /exit or Ctrl-D ends.\n";
  }
  bool first = true;
  for (std::string line;;) {
    if (terminal) std::cout << "\033[1m> \033[0m" << std::flush;
    if (!std::getline(std::cin, line)) break;
    if (line.ends_with('\r')) line.pop_back();
    if (std::exchange(first, false)) line = std::string(WithoutByteOrderMark(line));
    if (line == "/exit") break;
    if (line.empty()) continue;
    if (line == "/reset") {
      reset();
      continue;
    }
    say("user", line);
    std::string answer;
    const absl::Status status = client.GenerateStream(
        request,
        [&](const v1::GenerateStreamResponse& event) {
          answer += event.delta().text();
          std::cout << event.delta().text() << std::flush;
          return std::cout.good();
        },
        options);
    std::cout << "\n";
    if (!status.ok()) {
      const int exit = Fail(status);
      if (!terminal || status.code() == absl::StatusCode::kUnavailable) return exit;
      request.mutable_chat()->mutable_messages()->RemoveLast();  // the turn did not happen
      continue;
    }
    say("assistant", answer);
  }
  if (terminal) std::cout << "\n";
  return 0;
}

}  // namespace

void AddChat(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand("chat", "Talks with the model, turn by turn");
  auto flags = std::make_shared<ChatFlags>();
  command->add_option("--system", flags->system, "A system message to begin with");
  flags->sampling.AddTo(*command);
  command->callback([flags, &globals] {
    if (flags->sampling.n.value_or(1) > 1)
      throw CLI::ValidationError("--n", "a conversation goes on from one answer, expected 1");
    globals.run = [flags, &globals] {
      Client client(globals.server);
      return RunChat(client, *flags);
    };
  });
}

}  // namespace causeway
