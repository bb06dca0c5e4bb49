#include "engine/strategy/cost.h"

#include <algorithm>
#include <numeric>

namespace causeway {
namespace {

double Total(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

double Within(double keys, int64_t window) { return window > 0 ? std::min(keys, static_cast<double>(window)) : keys; }

}  // namespace

Rank MakeRank(const ModelWork& work, const Fleet& fleet, int index, int tp, int64_t weights) {
  const DeviceSpeed& speed = fleet.devices[index].speed;
  return {.linears = *speed.Linears(work.format, work.dtype, weights),
          .attention = speed.attention,
          .head = *speed.Linears(work.head_format, work.dtype, weights),
          .row_bytes_per_second = speed.row_bytes_per_second,
          .layer_seconds = speed.layer_seconds,
          .sample_seconds = speed.sample_seconds,
          .tp = tp,
          .link = SlowestLink(fleet, index, tp)};
}

double AllReduceSeconds(int ranks, double bytes, const Link& link) {
  if (ranks < 2) return 0;
  return CatalogueLatencies().start_seconds + 2 * (ranks - 1) * link.hop_seconds +
         2.0 * (ranks - 1) / ranks * bytes / link.bytes_per_second;
}

double TransferSeconds(double bytes, const Link& link) {
  const double start = link.hop_seconds > 0 ? CatalogueLatencies().start_seconds : 0;  // a copy in one memory has none
  return start + link.hop_seconds + bytes / link.bytes_per_second;
}

double ReadBytes(const UnitWork& unit, double rows) {
  return static_cast<double>(unit.read_bytes) +
         ExpectedExperts(unit.experts, unit.experts_per_token, rows) * static_cast<double>(unit.expert_bytes);
}

double UnitSeconds(const ModelWork& work, const UnitWork& unit, const StepRows& step, const Rank& rank) {
  const bool is_layer = unit.kv_bytes > 0, is_head = !is_layer && unit.row_flops > 0;
  const double rows = is_head ? step.sampled : step.rows;
  double seconds = (is_head ? rank.head : rank.linears).Seconds(ReadBytes(unit, rows), unit.row_flops * rows);
  if (!is_layer) return seconds + (is_head ? rows * rank.sample_seconds : 0);
  seconds += step.rows * static_cast<double>(unit.row_bytes) / rank.row_bytes_per_second;
  const double kv_bytes = static_cast<double>(unit.kv_bytes) * step.sequences * Within(step.context, unit.window);
  seconds += rank.attention.Seconds(kv_bytes, unit.key_flops * step.rows * Within(step.keys, unit.window));
  seconds +=
      unit.collectives * AllReduceSeconds(rank.tp, step.rows * static_cast<double>(work.hidden_row_bytes), rank.link);
  return seconds + rank.layer_seconds;
}

double StepSeconds(const ModelWork& work, const StepRows& step, const Fleet& fleet, int index) {
  const Rank rank = MakeRank(work, fleet, index, 1, work.total_bytes);
  double seconds = fleet.devices[index].speed.step_seconds;
  for (const UnitWork& unit : work.units) seconds += UnitSeconds(work, unit, step, rank);
  return seconds;
}

double StageSeconds::Sum() const {
  return Total(stages) + (stages.size() > 1 ? static_cast<double>(stages.size()) * hand_over : 0);
}
double StageSeconds::Pace() const {
  const double slowest = *std::max_element(stages.begin(), stages.end());
  return turns < 1 ? std::max(slowest, Sum() / (static_cast<double>(stages.size()) * turns)) : slowest;
}

double RoundSeconds(const StageSeconds& seconds, int micro_batches) {
  return std::max(micro_batches * seconds.Pace(), seconds.Sum());
}

double FillAndDrainSeconds(const StageSeconds& seconds, double chunks) {
  return seconds.Sum() + (chunks - 1) * seconds.Pace();
}

double BubbleShare(const StageSeconds& seconds, int micro_batches) {
  const double busy = micro_batches * Total(seconds.stages) / static_cast<double>(seconds.stages.size());
  return std::max(0.0, 1 - busy / RoundSeconds(seconds, micro_batches));
}

}  // namespace causeway
