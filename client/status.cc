#include <unistd.h>

#include <cmath>
#include <iostream>
#include <memory>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <google/protobuf/util/json_util.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands.h"
#include "client/options.h"
#include "client/progress.h"

namespace causeway {
namespace {

constexpr int kCells = 40;

struct Part {
  const char* name;
  const char* color;
  const char* fill;  // differs too, for terminals without colour
  int64_t bytes;
};

std::vector<Part> Parts(const v1::DeviceMemory& memory) {
  return {{"weights", "34", "█", memory.weights()},
          {"KV cache", "32", "▓", memory.kv_cache()},
          {"activations", "33", "▒", memory.activations_peak()},
          {"workspace", "35", "▒", memory.workspace()}};
}

std::string MemoryBar(const v1::DeviceStatus& device, bool color) {
  const double budget = std::max<int64_t>(device.budget_bytes(), 1);
  std::string bar;
  int drawn = 0;
  double sum = 0;
  for (const Part& part : Parts(device.memory())) {
    sum += part.bytes;
    const int end = std::min(kCells, static_cast<int>(std::lround(sum / budget * kCells)));
    if (end <= drawn) continue;
    if (color) absl::StrAppend(&bar, "\033[", part.color, "m");
    for (; drawn < end; ++drawn) bar += part.fill;
    if (color) bar += "\033[0m";
  }
  for (; drawn < kCells; ++drawn) bar += "·";
  return bar;
}

std::string Describe(const v1::GetStatusResponse& status, bool color) {
  std::string out;
  absl::StrAppendFormat(&out, "%s  %s, up %s, version %s\n", status.model(),
                        absl::AsciiStrToLower(v1::ServerState_Name(status.state())), Duration(status.uptime_seconds()),
                        status.version());
  if (status.state() == v1::LOADING && status.load_bytes_total() > 0) {
    const double fraction = static_cast<double>(status.load_bytes_done()) / status.load_bytes_total();
    absl::StrAppendFormat(&out, "loading   %s %s of %s\n", Bar(fraction, kCells), Bytes(status.load_bytes_done()),
                          Bytes(status.load_bytes_total()));
  }
  out += "\n";
  for (const v1::DeviceStatus& device : status.devices()) {
    if (device.budget_bytes() == 0) continue;  // at hand, but with no part of the model
    int64_t used = 0;
    std::string parts;
    for (const Part& part : Parts(device.memory())) {
      used += part.bytes;
      if (part.bytes == 0) continue;
      absl::StrAppend(&parts, parts.empty() ? "" : "  ");
      if (color) absl::StrAppend(&parts, "\033[", part.color, "m", part.fill, "\033[0m ");
      if (!color) absl::StrAppend(&parts, part.fill, " ");
      absl::StrAppend(&parts, part.name, " ", Bytes(part.bytes));
    }
    absl::StrAppendFormat(&out, "%-12s %s %s of %s\n", device.name(), MemoryBar(device, color), Bytes(used),
                          Bytes(device.budget_bytes()));
    absl::StrAppendFormat(&out, "%-12s %s  (%s)\n", "", parts, device.model());
  }
  const v1::KvCacheStatus& kv = status.kv_cache();
  const double blocks = std::max<int64_t>(kv.total(), 1);
  absl::StrAppendFormat(&out, "\n%-12s %s %d of %d tokens in use, %d cached\n", "KV cache", Bar(kv.used() / blocks, kCells),
                        kv.used() * kv.block_tokens(), kv.total() * kv.block_tokens(), kv.cached() * kv.block_tokens());
  absl::StrAppendFormat(&out, "%-12s %s %d waiting of %d, %d running\n", "queue",
                        Bar(static_cast<double>(status.requests_waiting()) / std::max<int64_t>(status.queue_limit(), 1), kCells),
                        status.requests_waiting(), status.queue_limit(), status.requests_running());
  absl::StrAppendFormat(&out, "%-12s %d prompt, %d generated, %d preemptions", "tokens", status.prompt_tokens(),
                        status.generated_tokens(), status.preemptions());
  if (status.prefix_query_tokens() > 0) {
    absl::StrAppendFormat(&out, ", %.0f%% of prompts cached", 100.0 * status.prefix_hit_tokens() / status.prefix_query_tokens());
  }
  std::string ended;
  for (const char* outcome : {"stop", "length", "cancelled", "deadline", "rejected", "invalid", "error"}) {
    const auto found = status.requests_ended().find(outcome);
    if (found != status.requests_ended().end() && found->second > 0) {
      absl::StrAppend(&ended, ended.empty() ? "" : ", ", found->second, " ", outcome);
    }
  }
  absl::StrAppendFormat(&out, "\n%-12s %s\n", "ended", ended.empty() ? "none yet" : ended);
  return out;
}

std::string DescribeModel(const v1::GetModelResponse& model, const v1::GetPlanResponse& plan) {
  std::string out = absl::StrFormat("%s: %d layers, hidden %d, vocabulary %d, %.1f M parameters, %s, up to %d tokens\n",
                                    model.architecture(), model.layers(), model.hidden_size(), model.vocab_size(),
                                    model.parameters() / 1e6, model.dtype(), model.max_model_len());
  for (const v1::PlanSegment& segment : plan.segments()) {
    const int64_t last = model.layers();
    std::string parts;
    if (segment.first_unit() == 0) parts = "embedding";
    const int64_t from = std::max<int64_t>(segment.first_unit(), 1), to = std::min<int64_t>(segment.last_unit(), last);
    if (from <= to) absl::StrAppendFormat(&parts, "%slayers %d to %d", parts.empty() ? "" : ", ", from - 1, to - 1);
    if (segment.first_unit() <= last + 1 && segment.last_unit() >= last + 1) absl::StrAppend(&parts, parts.empty() ? "" : ", ", "norm");
    if (segment.last_unit() >= last + 2) absl::StrAppend(&parts, parts.empty() ? "" : ", ", "head");
    absl::StrAppendFormat(&out, "%-12s %s\n", segment.device(), parts);
  }
  return out;
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
    const absl::Status status = client.WatchStatus(flags.interval, [&](const v1::GetStatusResponse& now) {
      if (flags.format == "json") {
        std::cout << json(now, false) << "\n" << std::flush;
      } else {
        if (color) std::cout << "\033[H\033[2J";
        std::cout << Describe(now, color) << std::flush;
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
  std::cout << Describe(*status, color);
  const auto model = client.GetModel({.timeout = absl::Seconds(10)});
  const auto plan = client.GetPlan({.timeout = absl::Seconds(10)});
  if (model.ok() && plan.ok()) std::cout << "\n" << DescribeModel(*model, *plan);
  return 0;
}

}  // namespace

void AddStatus(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand("status", "Shows the model, the plan, memory by device, and the queue");
  auto flags = std::make_shared<StatusFlags>();
  command->add_flag("-w,--watch", flags->watch, "Shows it again and again");
  command->add_option("--interval", flags->interval, "Seconds between two, with --watch")->check(NumberBetween(0.1, 60));
  command->add_option("--format", flags->format, "text or json")->check(CLI::IsMember({"text", "json"}));
  command->callback([flags, &globals] {
    globals.run = [flags, &globals] {
      Client client(globals.server);
      return RunStatus(client, *flags);
    };
  });
}

}  // namespace causeway
