#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/bench_report.h"
#include "client/commands.h"
#include "client/load.h"
#include "client/options.h"
#include "client/progress.h"

namespace causeway {
namespace {

constexpr int kThreadsMax = 4096;
constexpr int kTokensMax = 1 << 24;

struct BenchFlags {
  int requests = 64, prompt_tokens = 128, max_tokens = 32, concurrency = 0, shared_prefix = 0;
  double rate = 0;
  uint64_t seed = 0;
  std::string output;
};

// The prompts are random token ids: the work depends on lengths, and random prompts share no prefix unless asked to.
std::vector<v1::GenerateRequest> MakeRequests(const BenchFlags& flags, int64_t vocab_size) {
  std::mt19937_64 random(flags.seed);
  std::uniform_int_distribution<int32_t> id(0, static_cast<int32_t>(vocab_size - 1));
  std::vector<int32_t> prefix(std::min(flags.shared_prefix, flags.prompt_tokens));
  for (int32_t& token : prefix) token = id(random);
  std::vector<v1::GenerateRequest> requests(flags.requests);
  for (v1::GenerateRequest& request : requests) {
    auto& ids = *request.mutable_tokens()->mutable_ids();
    ids.Add(prefix.begin(), prefix.end());
    while (ids.size() < flags.prompt_tokens) ids.Add(id(random));
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stop()->set_max_tokens(flags.max_tokens);
    request.mutable_stop()->set_ignore_eos(true);
    request.mutable_output()->set_token_ids(true);  // it counts tokens; text does not show them
  }
  return requests;
}

BenchSample Send(Client& client, const v1::GenerateRequest& request) {
  BenchSample sample;
  const absl::Time start = absl::Now();
  double last = 0;
  const absl::Status status = client.GenerateStream(request, [&](const v1::GenerateStreamResponse& event) {
    const double now = absl::ToDoubleSeconds(absl::Now() - start);
    if (event.has_accepted()) sample.prompt_tokens = event.accepted().prompt_tokens();
    if (event.has_delta() && event.delta().token_ids_size() > 0) {
      if (sample.output_tokens == 0) {
        sample.first_token_seconds = now;
      } else {
        sample.gaps_seconds.push_back(now - last);
      }
      sample.output_tokens += event.delta().token_ids_size();
      last = now;
    }
    if (event.has_finished()) sample.cached_tokens = event.finished().usage().cached_tokens();
    return true;
  });
  sample.end_seconds = last;
  sample.ok = status.ok();
  sample.error = std::string(status.message());
  return sample;
}

// A Poisson process: gaps are exponential, and don't depend on how fast the answers come.
std::vector<double> Arrivals(const BenchFlags& flags) {
  std::mt19937_64 random(flags.seed + 1);
  std::exponential_distribution<double> gap(flags.rate);
  std::vector<double> arrivals(flags.requests);
  double at = 0;
  for (double& arrival : arrivals) {
    arrival = at;
    at += gap(random);
  }
  return arrivals;
}

int RunBench(Client& client, BenchFlags flags) {
  // A wrong path is found now and not after the run. An older report stays until the new one is there.
  if (!flags.output.empty() && !std::ofstream(flags.output, std::ios::app)) {
    return Fail(absl::InvalidArgumentError(absl::StrCat("cannot write ", flags.output)));
  }
  const absl::StatusOr<v1::GetModelResponse> model = client.GetModel({.timeout = absl::Seconds(10)});
  if (!model.ok()) return Fail(model.status());
  if (int64_t{flags.prompt_tokens} + flags.max_tokens > model->max_model_len()) {
    return Fail(absl::InvalidArgumentError(absl::StrCat("--prompt-tokens ", flags.prompt_tokens, " and --max-tokens ",
                                                        flags.max_tokens, " are more than the ", model->max_model_len(),
                                                        " tokens the daemon serves")));
  }
  const std::vector<v1::GenerateRequest> requests = MakeRequests(flags, model->vocab_size());
  const bool poisson = flags.rate > 0;
  std::cerr << absl::StrFormat("%s at %s: %d requests of %d + %d tokens, %s\n", model->name(), client.address(),
                               flags.requests, flags.prompt_tokens, flags.max_tokens,
                               poisson ? absl::StrFormat("%.2f requests/s (Poisson)", flags.rate)
                                       : absl::StrFormat("%d at once", flags.concurrency));

  std::vector<BenchSample> samples(requests.size());
  Progress progress("requests", flags.requests);
  const auto send = [&](int i) {
    samples[i] = Send(client, requests[i]);
    progress.Add(1);
  };
  const absl::Time start = absl::Now();
  const absl::Status sent = poisson ? SendAtArrivals(Arrivals(flags), kThreadsMax, send)
                                    : SendAtOnce(flags.requests, flags.concurrency, send);
  const double duration = absl::ToDoubleSeconds(absl::Now() - start);
  progress.Finish();
  if (!sent.ok()) return Fail(sent);

  nlohmann::json report = BenchReport(samples, duration);
  report["model"] = model->name();
  report["prompt_tokens"] = flags.prompt_tokens;
  report["max_tokens"] = flags.max_tokens;
  report["shared_prefix_tokens"] = flags.shared_prefix;
  if (poisson) {
    report["request_rate"] = flags.rate;
  } else {
    report["max_concurrency"] = flags.concurrency;
  }
  std::cout << BenchTable(report);
  if (!flags.output.empty()) {
    std::ofstream file(flags.output);
    file << report.dump(2) << "\n";
    if (!file.flush()) return Fail(absl::DataLossError(absl::StrCat("cannot write ", flags.output)));
  }
  for (const BenchSample& sample : samples) {
    if (!sample.ok)
      return Fail(
          absl::InternalError(absl::StrCat(report["failed"].dump(), " requests failed; the first: ", sample.error)));
  }
  return 0;
}

}  // namespace

void AddBench(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand("bench", "Measures throughput and latencies under load");
  auto flags = std::make_shared<BenchFlags>();
  command->add_option("--requests,--num-prompts", flags->requests, "How many")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--prompt-tokens", flags->prompt_tokens, "Random tokens of each prompt")
      ->check(CLI::Range(1, kTokensMax))
      ->capture_default_str();
  command->add_option("--max-tokens", flags->max_tokens, "Tokens each generates")
      ->check(CLI::Range(1, kTokensMax))
      ->capture_default_str();
  command->add_option("--shared-prefix", flags->shared_prefix, "Of the prompt, tokens that all share")
      ->check(CLI::Range(0, kTokensMax));
  CLI::Option* rate = command->add_option("--rate", flags->rate, "Requests a second, Poisson arrivals")
                          ->check(NumberBetween(0.001, 100000));
  command->add_option("--concurrency", flags->concurrency, "Requests at once (default 8 without --rate)")
      ->check(CLI::Range(1, kThreadsMax))
      ->excludes(rate);
  command->add_option("--seed", flags->seed,
                      "Of prompts and arrivals; the same prompts again come from the prefix cache");
  command->add_option("--output", flags->output, "Writes the figures as JSON");
  command->callback([flags, &globals] {
    if (flags->rate == 0 && flags->concurrency == 0) flags->concurrency = 8;
    globals.run = [flags, &globals] {
      Client client(globals.server);
      return RunBench(client, *flags);
    };
  });
}

}  // namespace causeway
