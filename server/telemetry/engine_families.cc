#include "server/telemetry/engine_families.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/time/time.h"
#include "server/telemetry/device_reports.h"
#include "server/telemetry/family.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

void AppendQueue(const EngineStats& stats, const std::string& model, std::vector<MetricFamily>& out) {
  const LabelList labels = {{"model", model}};
  const auto gauge = [&](const char* name, const char* help, double value) {
    Family(name, help, MetricType::Gauge).Add(labels, value).AppendTo(out);
  };
  const auto counter = [&](const char* name, const char* help, double value) {
    Family(name, help, MetricType::Counter).Add(labels, value).AppendTo(out);
  };
  gauge("causeway_requests_running", "Requests that have been admitted and have not ended.", stats.requests_running);
  gauge("causeway_requests_waiting", "Requests that wait to be admitted.", stats.requests_waiting);
  counter("causeway_preemptions_total", "Sequences put back in the queue because the KV cache was full.",
          stats.scheduler.preemptions);
  counter("causeway_prefix_cache_query_tokens_total", "Prompt tokens looked up in the prefix cache.",
          stats.scheduler.prefix_query_tokens);
  counter("causeway_prefix_cache_hit_tokens_total", "Prompt tokens found in the prefix cache.",
          stats.scheduler.prefix_hit_tokens);
  counter("causeway_constrained_requests_total", "Requests whose output follows a grammar.",
          stats.constrained_requests);
  counter("causeway_grammar_masks_total", "Masks of allowed tokens computed for grammars.", stats.masks);
  counter("causeway_grammar_mask_seconds_total", "Time spent on those masks, on threads beside the steps.",
          stats.mask_seconds);
  gauge("causeway_model_load_seconds", "How long loading the model took.", stats.load_seconds);
  if (stats.last_step > absl::InfinitePast() && stats.last_step > absl::UnixEpoch()) {
    gauge("causeway_last_step_timestamp_seconds", "Unix time at which the last step ended.",
          absl::ToDoubleSeconds(stats.last_step - absl::UnixEpoch()));
  }
  // Blocks with a cached prefix can be taken at any time, so the three add up to the whole.
  Family("causeway_kv_cache_blocks", "Blocks of the KV cache; cached ones are unused but hold a prefix.",
         MetricType::Gauge)
      .Add({{"model", model}, {"state", "used"}}, stats.scheduler.blocks_used)
      .Add({{"model", model}, {"state", "cached"}}, stats.scheduler.blocks_cached)
      .Add({{"model", model}, {"state", "free"}},
           stats.scheduler.blocks_total - stats.scheduler.blocks_used - stats.scheduler.blocks_cached)
      .AppendTo(out);
}

void AppendReplicas(const std::vector<EngineStats::Replica>& replicas, std::vector<MetricFamily>& out) {
  Family up("causeway_replica_up", "1 while the replica serves, 0 once a device of it has failed for good.",
            MetricType::Gauge);
  Family sequences("causeway_replica_sequences", "Sequences that the replica has started and not ended.",
                   MetricType::Gauge);
  Family used("causeway_replica_kv_cache_used_blocks", "Blocks of the replica's KV cache in use.", MetricType::Gauge);
  for (size_t i = 0; i < replicas.size(); ++i) {
    const LabelList labels = {{"replica", std::to_string(i)}};
    up.Add(labels, replicas[i].lost ? 0 : 1);
    sequences.Add(labels, static_cast<double>(replicas[i].scheduler.running + replicas[i].scheduler.waiting));
    used.Add(labels, static_cast<double>(replicas[i].scheduler.blocks_used));
  }
  for (Family* family : {&up, &sequences, &used}) family->AppendTo(out);
}

// Without a bound it counts all steps.
double Rows(int64_t rows) {
  return rows == std::numeric_limits<int64_t>::max() ? std::numeric_limits<double>::infinity()
                                                     : static_cast<double>(rows);
}

// What the allocators of a GPU do not count: the context, libraries, what they keep for later; and other processes'.
void AddUncounted(const DeviceReport& report, const GpuReading& gpu, const LabelList& labels, Family& memory) {
  if (report.measured == nullptr || !gpu.own_bytes.has_value()) return;
  const DeviceMemory& m = report.measured->memory;
  const int64_t other = *gpu.own_bytes - m.weights - m.kv_cache - m.activations - m.workspace;
  memory.Add(With(labels, "owner", "other"), static_cast<double>(std::max<int64_t>(other, 0)));
  if (!gpu.used_bytes.has_value()) return;
  const int64_t others = *gpu.used_bytes - *gpu.own_bytes;
  memory.Add(With(labels, "owner", "other_processes"), static_cast<double>(std::max<int64_t>(others, 0)));
}

void AppendDevices(const Plan& plan, const ExecutorStats& stats, const GpuReadings& gpus,
                   std::vector<MetricFamily>& out) {
  Family busy("causeway_stage_busy_seconds_total", "Time a stage's device spent computing.", MetricType::Counter);
  Family active("causeway_stage_active_seconds_total",
                "Time with a step under way in the device's replica: less the busy time, it waited for others.",
                MetricType::Counter);
  Family tokens("causeway_device_tokens_total", "Tokens computed on the device.", MetricType::Counter);
  Family memory("causeway_device_memory_bytes", "Memory of the device by owner, as allocators and the kernel count it.",
                MetricType::Gauge);
  Family capacity("causeway_device_memory_capacity_bytes", "Memory the device has.", MetricType::Gauge);
  Family error("causeway_plan_memory_error_bytes", "Planned less measured memory of the device, by owner.",
               MetricType::Gauge);
  Family offloaded("causeway_offload_bytes",
                   "Weights that the device computes from and does not hold, by where they are.", MetricType::Gauge);
  Family cpu_rows("causeway_offload_cpu_rows",
                  "Rows of a step up to which the CPU computes from weights in its memory.", MetricType::Gauge);
  Family streamed("causeway_offload_stream_bytes_total", "Bytes of offloaded weights brought to the device.",
                  MetricType::Counter);
  Family transfers("causeway_transfer_bytes_total", "Bytes handed from one device to another.", MetricType::Counter);
  Family collective_seconds("causeway_collective_seconds_total",
                            "Time a device spent on sums with the other ranks of its group, waiting included.",
                            MetricType::Counter);
  Family collective_bytes("causeway_collective_bytes_total",
                          "Bytes that a device gave into sums with the other ranks of its group.", MetricType::Counter);
  std::vector<std::pair<LabelList, GpuReading>> read;
  for (const DeviceReport& report : ReportDevices(plan, stats)) {
    const LabelList hardware = {{"device", report.name}, {"device_name", report.model}};
    LabelList labels = hardware;
    if (report.place.has_value()) {
      labels = With(labels, "replica", std::to_string(report.place->replica));
      labels = With(labels, "stage", std::to_string(report.place->stage));
      labels = With(labels, "rank", std::to_string(report.place->rank));
    }
    if (report.measured != nullptr) {
      const DevicePlan& planned = *report.planned;
      const DeviceStats& device = *report.measured;
      const DeviceMemory& m = device.memory;
      capacity.Add(labels, planned.device.memory_bytes);
      if (!planned.units.empty()) {
        busy.Add(labels, device.busy_seconds);
        active.Add(labels, device.active_seconds);
        if (plan.options.parallel.tp > 1) {
          collective_seconds.Add(labels, device.collectives.seconds);
          collective_bytes.Add(labels, static_cast<double>(device.collectives.bytes));
        }
        tokens.Add(With(labels, "kind", "prefill"), device.prefill_tokens)
            .Add(With(labels, "kind", "decode"), device.decode_tokens);
        error.Add(With(labels, "owner", "weights"), static_cast<double>(report.left.weights))
            .Add(With(labels, "owner", "kv_cache"), static_cast<double>(report.left.kv_cache))
            .Add(With(labels, "owner", "activations"), static_cast<double>(report.left.activations));
        memory.Add(With(labels, "owner", "weights"), m.weights)
            .Add(With(labels, "owner", "kv_cache"), m.kv_cache)
            .Add(With(labels, "owner", "activations"), m.activations)
            .Add(With(labels, "owner", "workspace"), m.workspace);
      }
      if (!planned.offloaded.empty()) {
        std::map<std::string, double> bytes;
        for (const OffloadedModule& module : planned.offloaded)
          bytes[TierName(module.tier)] += static_cast<double>(module.bytes);
        for (const auto& [tier, held] : bytes) offloaded.Add(With(labels, "tier", tier), held);
        if (bytes.count("cpu") > 0) {
          cpu_rows.Add(With(labels, "weights", "experts"), Rows(device.expert_cpu_rows))
              .Add(With(labels, "weights", "other"), Rows(device.cpu_rows));
        }
        streamed.Add(labels, device.streamed_bytes);
      }
    }
    if (report.other.has_value()) memory.Add(With(labels, "owner", "other"), *report.other);
    if (const auto gpu = gpus.find(report.name); gpu != gpus.end()) {
      AddUncounted(report, gpu->second, labels, memory);
      read.emplace_back(hardware, gpu->second);
    }
  }
  for (const TransferStats& transfer : stats.transfers) {
    transfers.Add({{"from", transfer.from}, {"to", transfer.to}}, transfer.bytes);
  }
  for (Family* family : {&busy, &active, &tokens, &memory, &capacity, &error, &offloaded, &cpu_rows, &streamed,
                         &transfers, &collective_seconds, &collective_bytes})
    family->AppendTo(out);
  AppendGpus(read, out);
}

// How tokens spread over experts. Sums for each layer tell what steps cost. Tokens by expert are one series for each of
// what may be tens of thousands of experts, and are left out beyond kExpertSeriesMax.
void AppendExperts(const std::map<int, ExpertLoad>& layers, const std::string& model, std::vector<MetricFamily>& out) {
  Family experts("causeway_layer_experts", "Experts of the layer.", MetricType::Gauge);
  Family steps("causeway_layer_expert_steps_total", "Steps in which the layer's experts computed.",
               MetricType::Counter);
  Family tokens("causeway_layer_expert_tokens_total", "Tokens, once for each expert of the layer that they went to.",
                MetricType::Counter);
  Family busiest("causeway_layer_busiest_expert_tokens_total", "Of these, the ones of each step's busiest expert.",
                 MetricType::Counter);
  Family busy("causeway_layer_busy_experts_total", "Experts of the layer that got a token, added up over the steps.",
              MetricType::Counter);
  Family each("causeway_expert_tokens_total", "Tokens that went to the expert.", MetricType::Counter);
  size_t series = 0;
  for (const auto& [layer, load] : layers) series += load.tokens.size();
  for (const auto& [layer, load] : layers) {
    const LabelList labels = {{"model", model}, {"layer", std::to_string(layer)}};
    experts.Add(labels, load.tokens.size());
    steps.Add(labels, load.steps);
    tokens.Add(labels, std::accumulate(load.tokens.begin(), load.tokens.end(), int64_t{0}));
    busiest.Add(labels, load.busiest);
    busy.Add(labels, load.busy);
    for (size_t e = 0; e < load.tokens.size() && series <= kExpertSeriesMax; ++e)
      each.Add(With(labels, "expert", std::to_string(e)), load.tokens[e]);
  }
  for (Family* family : {&experts, &steps, &tokens, &busiest, &busy, &each}) family->AppendTo(out);
}

}  // namespace

std::vector<MetricFamily> EngineFamilies(const Engine& engine, const std::string& model, const GpuReadings& gpus) {
  const EngineStats stats = engine.Stats();
  std::vector<MetricFamily> families;
  AppendQueue(stats, model, families);
  const Plan& plan = engine.model().plan;
  Family("causeway_kv_cache_bytes_per_token", "Bytes of the KV cache for a token, over all layers and with scales.",
         MetricType::Gauge)
      .Add({{"model", model}, {"dtype", std::string(DTypeName(KvDType(plan.options)))}}, plan.kv_bytes_per_token)
      .AppendTo(families);
  AppendReplicas(stats.replicas, families);
  AppendDevices(plan, stats.executor, gpus, families);
  AppendExperts(stats.executor.experts, model, families);
  return families;
}

MetricFamily LogFamily() {
  std::vector<MetricFamily> families;
  Family("causeway_log_lines_dropped_total", "Lines of the log that were dropped, since nobody read standard error.",
         MetricType::Counter)
      .Add({}, static_cast<double>(LogLinesDropped()))
      .AppendTo(families);
  return families.front();
}

}  // namespace causeway
