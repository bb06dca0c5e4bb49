#include "absl/time/clock.h"
#include "engine/base/limits.h"
#include "engine/plan/unit_table.h"
#include "server/rpc/admin.h"
#include "server/telemetry/device_reports.h"

namespace causeway {
namespace {

v1::ServerState ToWire(ServingPhase phase) {
  switch (phase) {
    case ServingPhase::kLoading: return v1::LOADING;
    case ServingPhase::kServing: return v1::SERVING;
    default: return v1::DRAINING;
  }
}

void FillPlanned(const Plan& plan, const DevicePlan& device, v1::DeviceStatus* out) {
  out->set_budget_bytes(device.budget);
  out->set_capacity_bytes(device.device.memory_bytes);
  if (!device.units.empty()) out->set_holds(UnitNames(UnitsOf(plan), device.units));
  v1::PlannedMemory* planned = out->mutable_planned();
  planned->set_weights(device.weights);
  planned->set_kv_cache(device.kv_cache);
  planned->set_activations(device.activations);
  planned->set_reserve(device.reserve);
}

void FillMeasured(const DeviceStats& device, v1::DeviceStatus* out) {
  out->set_busy_seconds(device.busy_seconds);
  out->set_active_seconds(device.active_seconds);
  out->set_prefill_tokens(device.prefill_tokens);
  out->set_decode_tokens(device.decode_tokens);
  v1::DeviceMemory* memory = out->mutable_memory();
  memory->set_weights(device.memory.weights);
  memory->set_kv_cache(device.memory.kv_cache);
  memory->set_activations(device.memory.activations);
  memory->set_activations_peak(device.memory.activations_peak);
  memory->set_workspace(device.memory.workspace);
}

void FillDevices(const Plan& plan, const ExecutorStats& stats, v1::GetStatusResponse* response) {
  for (const DeviceReport& report : ReportDevices(plan, stats)) {
    v1::DeviceStatus* out = response->add_devices();
    out->set_name(report.name);
    if (report.planned != nullptr) {
      out->set_model(report.model);
      FillPlanned(plan, *report.planned, out);
    }
    if (report.place.has_value()) {
      out->mutable_place()->set_replica(report.place->replica);
      out->mutable_place()->set_stage(report.place->stage);
      out->mutable_place()->set_rank(report.place->rank);
    }
    if (report.other.has_value()) out->mutable_memory()->set_other(*report.other);
    if (report.measured == nullptr) continue;
    FillMeasured(*report.measured, out);
    out->set_free_bytes(report.left.budget);
  }
}

void FillEngine(const EngineStats& stats, absl::Time now, v1::GetStatusResponse* response) {
  response->set_load_seconds(stats.load_seconds);
  response->set_requests_running(stats.requests_running);
  response->set_requests_waiting(stats.requests_waiting);
  v1::KvCacheStatus* cache = response->mutable_kv_cache();
  cache->set_total(stats.scheduler.blocks_total);
  cache->set_used(stats.scheduler.blocks_used);
  cache->set_cached(stats.scheduler.blocks_cached);
  cache->set_block_tokens(kBlockTokens);
  response->set_preemptions(stats.scheduler.preemptions);
  response->set_prefix_query_tokens(stats.scheduler.prefix_query_tokens);
  response->set_prefix_hit_tokens(stats.scheduler.prefix_hit_tokens);
  // Before the first step it has no time.
  if (stats.last_step > absl::UnixEpoch() && stats.last_step < absl::InfiniteFuture()) {
    response->set_last_step_seconds_ago(absl::ToDoubleSeconds(now - stats.last_step));
  }
}

}  // namespace

absl::StatusOr<v1::GetStatusResponse> HandleGetStatus(RpcContext& context, const Caller& caller,
                                                      const v1::GetStatusRequest& request) {
  const absl::Time now = absl::Now();
  v1::GetStatusResponse response;
  response.set_state(ToWire(context.state.phase()));
  response.set_version(context.version);
  response.set_uptime_seconds(absl::ToDoubleSeconds(now - context.started));
  response.set_model(context.model_name);
  response.set_load_bytes_done(context.load_bytes_done);
  response.set_load_bytes_total(context.load_bytes_total);
  response.set_queue_limit(context.queue_limit);
  for (const auto& [outcome, count] : context.metrics->Outcomes())
    (*response.mutable_requests_ended())[outcome] = count;
  response.set_prompt_tokens(context.metrics->prompt_tokens());
  response.set_generated_tokens(context.metrics->generated_tokens());
  ExecutorStats executor;
  if (const Serving* serving = context.state.serving(); serving != nullptr) {
    const EngineStats stats = serving->engine->Stats();
    FillEngine(stats, now, &response);
    executor = stats.executor;
  }
  FillDevices(*context.plan, executor, &response);
  return response;
}

}  // namespace causeway
