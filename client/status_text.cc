#include "client/status_text.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "client/progress.h"

namespace causeway {
namespace {

constexpr int kCells = 40, kMemoryCells = 24;

struct Owner {
  const char* name;
  const char* color;
  const char* fill;  // also differs, for terminals without colour
};
constexpr Owner kOwners[] = {{"weights", "34", "█"},   {"KV cache", "32", "▓"}, {"activations", "33", "▒"},
                             {"workspace", "36", "▒"}, {"reserve", "35", "░"},  {"free", "2", "·"}};
constexpr size_t kOwnerCount = std::size(kOwners);

// A device's budget, divided among the owners in their order.
using Shares = std::vector<int64_t>;

Shares Used(const v1::DeviceStatus& device) {
  const v1::DeviceMemory& memory = device.memory();
  return {memory.weights(),   memory.kv_cache(),          memory.activations_peak(),
          memory.workspace(), device.planned().reserve(), device.free_bytes()};
}

Shares Planned(const v1::DeviceStatus& device) {
  const v1::PlannedMemory& plan = device.planned();
  const int64_t sum = plan.weights() + plan.kv_cache() + plan.activations() + plan.reserve();
  return {plan.weights(), plan.kv_cache(), plan.activations(), 0, plan.reserve(), device.budget_bytes() - sum};
}

std::string Colored(const std::string& text, const char* code, bool color) {
  return color ? absl::StrCat("\033[", code, "m", text, "\033[0m") : text;
}

std::string MemoryBar(const Shares& shares, int64_t budget, bool color) {
  std::string bar;
  int drawn = 0;
  int64_t sum = 0;
  for (size_t i = 0; i < kOwnerCount; ++i) {
    sum += shares[i];
    const bool last = i + 1 == kOwnerCount;
    const int end =
        last ? kMemoryCells
             : std::min(kMemoryCells, static_cast<int>(std::lround(static_cast<double>(sum) / budget * kMemoryCells)));
    std::string run;
    for (; drawn < end; ++drawn) run += kOwners[i].fill;
    if (!run.empty()) bar += Colored(run, kOwners[i].color, color);
  }
  return bar;
}

std::string Row(const std::string& name, const char* label, const Shares& shares, int64_t budget, bool color) {
  std::string row = absl::StrFormat("%-12s %-7s", name, label);
  for (const int64_t bytes : shares) absl::StrAppendFormat(&row, " %11s", bytes == 0 ? "-" : Bytes(bytes));
  return absl::StrCat(row, absl::StrFormat(" %11s", Bytes(budget)), "  ", MemoryBar(shares, budget, color), "\n");
}

// Where the device stands among several, and how much of a step's time it computes.
std::string Place(const v1::GetStatusResponse& status, const v1::DeviceStatus& device) {
  int replicas = 0, stages = 0, ranks = 0;
  for (const v1::DeviceStatus& each : status.devices()) {
    replicas = std::max(replicas, each.place().replica());
    stages = std::max(stages, each.place().stage());
    ranks = std::max(ranks, each.place().rank());
  }
  std::string place;
  if (replicas > 0) absl::StrAppend(&place, ", replica ", device.place().replica());
  if (stages > 0) absl::StrAppend(&place, ", stage ", device.place().stage());
  if (ranks > 0) absl::StrAppend(&place, ", rank ", device.place().rank());
  if (!place.empty() && device.active_seconds() > 0)
    absl::StrAppendFormat(&place, ", busy %.0f%% of the steps' time",
                          100 * device.busy_seconds() / device.active_seconds());
  return place;
}

std::string Devices(const v1::GetStatusResponse& status, bool color) {
  std::string header = absl::StrFormat("%-12s %-7s", "device", ""), out;
  for (const Owner& owner : kOwners) {
    // Colours have no width.
    absl::StrAppend(&header, std::string(12 - std::string(owner.name).size(), ' '),
                    Colored(owner.name, owner.color, color));
  }
  absl::StrAppendFormat(&out, "%s %11s\n", header, "budget");
  for (const v1::DeviceStatus& device : status.devices()) {
    if (device.budget_bytes() > 0 && device.holds().empty()) {
      absl::StrAppendFormat(&out, "%-12s holds no part of the model, %s\n", device.name(),
                            Bytes(device.budget_bytes()));
    } else if (device.budget_bytes() > 0) {
      out += Row(device.name(), "used", Used(device), device.budget_bytes(), color);
      out += Row("", "planned", Planned(device), device.budget_bytes(), color);
      absl::StrAppendFormat(&out, "%-12s %s (%s)%s\n", "", device.holds(), device.model(), Place(status, device));
    }
    if (device.memory().other() > 0) {
      absl::StrAppendFormat(&out, "%-12s %s beside these: programs, libraries, tokenizer\n", "process",
                            Bytes(device.memory().other()));
    }
  }
  return out;
}

std::string Ended(const v1::GetStatusResponse& status) {
  std::string ended;
  for (const char* outcome : {"stop", "length", "cancelled", "deadline", "rejected", "invalid", "error"}) {
    const auto found = status.requests_ended().find(outcome);
    if (found != status.requests_ended().end() && found->second > 0) {
      absl::StrAppend(&ended, ended.empty() ? "" : ", ", found->second, " ", outcome);
    }
  }
  return ended.empty() ? "none yet" : ended;
}

}  // namespace

std::string StatusText(const v1::GetStatusResponse& status, bool color) {
  std::string out;
  absl::StrAppendFormat(&out, "%s  %s, up %s, version %s\n", status.model(),
                        absl::AsciiStrToLower(v1::ServerState_Name(status.state())), Duration(status.uptime_seconds()),
                        status.version());
  if (status.state() == v1::LOADING && status.load_bytes_total() > 0) {
    const double fraction = static_cast<double>(status.load_bytes_done()) / status.load_bytes_total();
    absl::StrAppendFormat(&out, "loading   %s %s of %s\n", Bar(fraction, kCells), Bytes(status.load_bytes_done()),
                          Bytes(status.load_bytes_total()));
  }
  absl::StrAppend(&out, "\n", Devices(status, color));
  const v1::KvCacheStatus& kv = status.kv_cache();
  const double blocks = std::max<int64_t>(kv.total(), 1);
  absl::StrAppendFormat(&out, "\n%-12s %s %d of %d tokens in use, %d cached\n", "KV cache",
                        Bar(kv.used() / blocks, kCells), kv.used() * kv.block_tokens(), kv.total() * kv.block_tokens(),
                        kv.cached() * kv.block_tokens());
  absl::StrAppendFormat(
      &out, "%-12s %s %d waiting of %d, %d running\n", "queue",
      Bar(static_cast<double>(status.requests_waiting()) / std::max<int64_t>(status.queue_limit(), 1), kCells),
      status.requests_waiting(), status.queue_limit(), status.requests_running());
  absl::StrAppendFormat(&out, "%-12s %d prompt, %d generated, %d preemptions", "tokens", status.prompt_tokens(),
                        status.generated_tokens(), status.preemptions());
  if (status.prefix_query_tokens() > 0) {
    absl::StrAppendFormat(&out, ", %.0f%% of prompts cached",
                          100.0 * status.prefix_hit_tokens() / status.prefix_query_tokens());
  }
  absl::StrAppendFormat(&out, "\n%-12s %s\n", "ended", Ended(status));
  return out;
}

std::string Redraw(const std::string& text, bool first) {
  // Clears each line to its end, and then what a longer text left below.
  return absl::StrCat(first ? "\033[2J" : "", "\033[H", absl::StrReplaceAll(text, {{"\n", "\033[K\n"}}), "\033[J");
}

}  // namespace causeway
