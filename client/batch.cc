#include "client/batch.h"

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <random>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "client/commands.h"
#include "client/progress.h"
#include "client/prompt_file.h"

namespace causeway {
namespace {

using Json = nlohmann::json;

absl::StatusOr<v1::GenerateResponse> Answer(Client& client, const Prompt& prompt, const SamplingFlags& sampling) {
  v1::GenerateRequest request;
  if (absl::Status filled = sampling.Fill(request); !filled.ok()) return filled;
  CallOptions options;
  if (sampling.timeout_seconds > 0) options.timeout = absl::Seconds(sampling.timeout_seconds);
  if (prompt.max_tokens) request.mutable_stop()->set_max_tokens(*prompt.max_tokens);
  if (!prompt.max_length) {
    request.set_prompt(prompt.text);
    return client.Generate(request, options);
  }
  // max_length counts the prompt, so the prompt's tokens must be known.
  v1::TokenizeRequest tokenize;
  tokenize.set_text(prompt.text);
  absl::StatusOr<v1::TokenizeResponse> tokens = client.Tokenize(tokenize, options);
  if (!tokens.ok()) return tokens.status();
  if (tokens->ids_size() >= *prompt.max_length) {
    return absl::InvalidArgumentError(absl::StrCat("max_length is ", *prompt.max_length, " and the prompt alone has ",
                                                   tokens->ids_size(), " tokens"));
  }
  *request.mutable_tokens()->mutable_ids() = tokens->ids();
  request.mutable_stop()->set_max_tokens(*prompt.max_length - tokens->ids_size());
  return client.Generate(request, options);
}

// A full queue is no answer. Asks again when the daemon said to, while the prompt's own time lasts.
absl::StatusOr<v1::GenerateResponse> AnswerOnceAdmitted(Client& client, const Prompt& prompt,
                                                        const SamplingFlags& sampling) {
  const absl::Time give_up =
      sampling.timeout_seconds > 0 ? absl::Now() + absl::Seconds(sampling.timeout_seconds) : absl::InfiniteFuture();
  std::minstd_rand random(prompt.line);
  for (;;) {
    const absl::StatusOr<v1::GenerateResponse> response = Answer(client, prompt, sampling);
    if (response.status().code() != absl::StatusCode::kResourceExhausted) return response;
    const std::optional<absl::Duration> delay = RetryDelay(response.status());
    if (!delay) return response;  // a message that is too large stays too large
    // The wait has jitter, so that requests that were refused together do not come back together.
    const absl::Duration wait = *delay * std::uniform_real_distribution(1.0, 1.5)(random);
    if (absl::Now() + wait >= give_up) return response;
    absl::SleepFor(wait);
  }
}

Json Result(const Prompt& prompt, const absl::StatusOr<v1::GenerateResponse>& response) {
  Json result{{"line", prompt.line}, {"prompt", prompt.text}};
  if (!prompt.id.is_null()) result["id"] = prompt.id;
  if (!response.ok()) {
    result["error"] = std::string(response.status().message());
    return result;
  }
  const v1::Choice& first = response->choices(0);
  result["text"] = first.text();
  result["finish_reason"] = v1::FinishReason_Name(first.finish_reason());
  if (response->choices_size() > 1) {
    for (const v1::Choice& choice : response->choices()) result["texts"].push_back(choice.text());
  }
  result["prompt_tokens"] = response->usage().prompt_tokens();
  result["generated_tokens"] = response->usage().generated_tokens();
  return result;
}

}  // namespace

int RunBatch(Client& client, const BatchFlags& flags, const SamplingFlags& sampling) {
  if (std::error_code error; std::filesystem::equivalent(flags.input, flags.output, error)) {
    return Fail(absl::InvalidArgumentError(absl::StrCat("--output ", flags.output, " is the file of --input")));
  }
  const absl::StatusOr<std::vector<Prompt>> prompts = ReadPrompts(flags.input);
  if (!prompts.ok()) return Fail(prompts.status());
  const absl::StatusOr<std::set<int64_t>> done = ResumeResults(flags.output, *prompts);
  if (!done.ok()) return Fail(done.status());
  // Before any work, this asks whether there is a daemon.
  if (const auto status = client.GetStatus({.timeout = absl::Seconds(10)});
      !status.ok() && status.status().code() == absl::StatusCode::kUnavailable) {
    return Fail(status.status());
  }
  const bool to_stdout = flags.output == "-";
  const std::string name = to_stdout ? "standard output" : flags.output;
  std::FILE* output = to_stdout ? stdout : std::fopen(flags.output.c_str(), "ab");
  if (output == nullptr) return Fail(absl::InvalidArgumentError(absl::StrCat("cannot write ", name)));
  if (!done->empty()) {
    std::cerr << name << " answers " << done->size() << " of " << prompts->size()
              << " prompts; going on with the rest\n";
  }

  Progress progress("prompts", prompts->size(), done->size());
  std::atomic<size_t> next = 0;
  absl::Mutex mutex;
  int64_t failed = 0, tokens = 0;
  absl::Status fatal;
  const absl::Time start = absl::Now();
  const auto work = [&] {
    for (size_t i; (i = next++) < prompts->size();) {
      const Prompt& prompt = (*prompts)[i];
      if (done->contains(prompt.line)) continue;
      const absl::StatusOr<v1::GenerateResponse> response = AnswerOnceAdmitted(client, prompt, sampling);
      absl::MutexLock lock(&mutex);
      if (!fatal.ok()) return;
      if (response.status().code() == absl::StatusCode::kUnavailable) {
        // The daemon went away. The same command can get the missing results later.
        fatal = response.status();
        next = prompts->size();
        return;
      }
      if (!response.ok()) ++failed;
      if (response.ok()) tokens += response->usage().generated_tokens();
      const std::string line = Result(prompt, response).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
      if (std::fwrite(line.data(), 1, line.size(), output) != line.size() || std::fflush(output) != 0) {
        fatal = absl::DataLossError(absl::StrCat("cannot write ", name, "; is the disk full?"));
        next = prompts->size();
        return;
      }
      progress.Add(1, absl::StrFormat("%.1f tokens/s", tokens / absl::ToDoubleSeconds(absl::Now() - start)));
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < flags.concurrency; ++t) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  progress.Finish();
  if (std::fclose(output) != 0 && fatal.ok()) fatal = absl::DataLossError(absl::StrCat("cannot write ", name));
  if (!fatal.ok()) {
    std::cerr << (to_stdout ? "Stopped early.\n" : "Stopped early; the same command goes on where this one ended.\n");
    return Fail(fatal);
  }
  if (failed > 0) {
    std::cerr << failed << " of " << prompts->size() << " prompts failed; see \"error\" in " << name
              << (to_stdout ? ".\n" : ". The same command tries those again.\n");
  }
  return failed > 0 ? 1 : 0;
}

}  // namespace causeway
