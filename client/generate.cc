#include <unistd.h>

#include <iostream>
#include <map>
#include <memory>
#include <optional>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <google/protobuf/util/json_util.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "client/batch.h"
#include "client/commands.h"
#include "client/options.h"
#include "client/read_file.h"

namespace causeway {
namespace {

struct GenerateFlags {
  std::string prompt, format = "text";
  std::optional<std::string> tokens;
  bool echo = false, quiet = false, prompt_logprobs = false;
  int32_t top_logprobs = -1;
  BatchFlags batch;
  SamplingFlags sampling;
};

std::string FinishName(v1::FinishReason reason) { return absl::AsciiStrToLower(v1::FinishReason_Name(reason)); }

// Prints one dim line under the text, for people only.
void Summary(const v1::Finished& finished) {
  const double seconds = finished.timing().decode_seconds();
  const int64_t generated = finished.usage().generated_tokens();
  std::string line = absl::StrFormat("%d prompt tokens (%d cached), %d generated in %.2f s",
                                     finished.usage().prompt_tokens(), finished.usage().cached_tokens(), generated,
                                     finished.timing().queue_seconds() + finished.timing().prefill_seconds() + seconds);
  if (generated > 1 && seconds > 0) absl::StrAppendFormat(&line, ", %.1f tokens/s", (generated - 1) / seconds);
  if (finished.choices_size() > 0)
    absl::StrAppendFormat(&line, ", %s", FinishName(finished.choices(0).finish_reason()));
  std::cerr << "\033[2m" << line << "\033[0m\n";
}

int RunOne(Client& client, const GenerateFlags& flags) {
  v1::GenerateRequest request;
  if (const absl::Status filled = flags.sampling.Fill(request); !filled.ok()) return Fail(filled);
  if (flags.tokens) {
    const absl::StatusOr<std::vector<int32_t>> ids = ParseTokenIds(*flags.tokens);
    if (!ids.ok()) return Fail(ids.status());
    request.mutable_tokens()->mutable_ids()->Add(ids->begin(), ids->end());
  } else {
    std::string prompt = flags.prompt;
    if (prompt.empty() || prompt == "-") {
      if (prompt.empty() && isatty(STDIN_FILENO))
        return Fail(absl::InvalidArgumentError("no prompt; give one, or pipe it in"));
      const absl::StatusOr<std::string> read = ReadStandardInput();
      if (!read.ok()) return Fail(read.status());
      prompt = std::string(WithoutLastNewline(*read));
    }
    request.set_prompt(prompt);
  }
  if (flags.echo) request.mutable_output()->set_echo(true);
  if (flags.top_logprobs >= 0) {
    request.mutable_output()->set_logprobs(true);
    request.mutable_output()->set_top_logprobs(flags.top_logprobs);
  }
  if (flags.prompt_logprobs) request.mutable_output()->set_prompt_logprobs(true);
  CallOptions options;
  if (flags.sampling.timeout_seconds > 0) options.timeout = absl::Seconds(flags.sampling.timeout_seconds);

  if (flags.format == "json") {
    const absl::StatusOr<v1::GenerateResponse> response = client.Generate(request, options);
    if (!response.ok()) return Fail(response.status());
    std::string json;
    google::protobuf::util::JsonPrintOptions print;
    print.add_whitespace = true;
    print.always_print_primitive_fields = true;  // index 0 and logprob 0 are values, too
    print.preserve_proto_field_names = true;
    if (!google::protobuf::util::MessageToJsonString(*response, &json, print).ok()) {
      return Fail(absl::InternalError("the answer cannot be written as JSON"));
    }
    std::cout << json;
    return 0;
  }

  const bool several = flags.sampling.n.value_or(1) > 1;
  bool line_open = false;
  v1::Finished finished;
  std::map<int32_t, std::string> choices;  // several choices come interleaved and are printed at the end
  const absl::Status status = client.GenerateStream(
      request,
      [&](const v1::GenerateStreamResponse& event) {
        if (event.has_delta()) {
          std::string text = event.delta().text();
          // A model without a tokenizer answers in token ids.
          if (text.empty()) {
            for (const int32_t id : event.delta().token_ids()) absl::StrAppendFormat(&text, "%d ", id);
          }
          if (several) {
            choices[event.delta().index()] += text;
          } else {
            std::cout << text << std::flush;
            line_open = true;
          }
        }
        if (event.has_finished()) finished = event.finished();
        return std::cout.good();  // a closed pipe ends the request
      },
      options);
  // Text that came before an error is shown, too.
  for (const auto& [index, text] : choices) std::cout << "[" << index << "] " << text << "\n";
  if (line_open || (status.ok() && !several)) std::cout << "\n";
  std::cout << std::flush;
  if (!status.ok()) return Fail(status);
  if (!flags.quiet && isatty(STDERR_FILENO)) Summary(finished);
  return 0;
}

}  // namespace

void AddGenerate(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand("generate", "Continues a text, and streams what comes");
  auto flags = std::make_shared<GenerateFlags>();
  CLI::Option* prompt = command->add_option("prompt", flags->prompt,
                                            "The text; left out or -, it is read from standard input, "
                                            "without the newline at its end");
  CLI::Option* tokens = command->add_option_function<std::string>(
      "--tokens", [&flags = *flags](const std::string& ids) { flags.tokens = ids; },
      "Token ids instead of a text: 12,7,99");
  CLI::Option* format = command->add_option("--format", flags->format, "text, or json for the whole answer at once")
                            ->check(CLI::IsMember({"text", "json"}));
  CLI::Option* echo = command->add_flag("--echo", flags->echo, "Begins with the prompt");
  CLI::Option* logprobs = command->add_option("--logprobs", flags->top_logprobs,
                                              "With --format json: log probabilities, and of so many likeliest tokens");
  CLI::Option* prompt_logprobs = command->add_flag("--prompt-logprobs", flags->prompt_logprobs,
                                                   "With --format json: log probabilities of the prompt's tokens");
  command->add_flag("-q,--quiet", flags->quiet, "No summary line");
  const char files[] = "Many prompts from a file";
  CLI::Option* input =
      command
          ->add_option("--input", flags->batch.input,
                       "JSON lines: {\"id\": \"a\", \"prompt\": \"...\", \"max_length\": 64}; -: standard input")
          ->group(files);
  CLI::Option* output = command
                            ->add_option("--output", flags->batch.output,
                                         "JSON lines of results; an interrupted run goes on; -: standard output")
                            ->group(files);
  CLI::Option* concurrency = command->add_option("--concurrency", flags->batch.concurrency, "Requests at once")
                                 ->check(CLI::Range(1, 1024))
                                 ->group(files);
  input->needs(output);
  output->needs(input);
  concurrency->needs(input);
  prompt->excludes(tokens);
  for (CLI::Option* option : {prompt, tokens, format, echo, logprobs, prompt_logprobs}) input->excludes(option);
  flags->sampling.AddTo(*command);
  command->callback([flags, input, &globals] {
    if (flags->top_logprobs >= 0 && flags->format != "json")
      throw CLI::ValidationError("--logprobs", "needs --format json");
    if (flags->prompt_logprobs && flags->format != "json")
      throw CLI::ValidationError("--prompt-logprobs", "needs --format json");
    globals.run = [flags, input, &globals] {
      Client client(globals.server);
      return input->count() == 0 ? RunOne(client, *flags) : RunBatch(client, flags->batch, flags->sampling);
    };
  });
}

}  // namespace causeway
