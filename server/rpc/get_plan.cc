#include "engine/plan/plan.h"
#include "server/rpc/admin.h"

namespace causeway {

absl::StatusOr<v1::GetPlanResponse> HandleGetPlan(RpcContext& context, const v1::GetPlanRequest& request) {
  const Plan& plan = *context.plan;
  v1::GetPlanResponse response;
  for (const DevicePlan& device : plan.devices) {
    v1::PlanDevice* out = response.add_devices();
    out->set_name(device.device.name);
    out->set_model(device.device.model);
    out->set_budget(device.budget);
    out->set_weights(device.weights);
    out->set_kv_cache(device.kv_cache);
    out->set_activations(device.activations);
    out->set_reserve(device.reserve);
    out->set_free(device.free);
  }
  for (const ModulePlacement& module : plan.modules) {
    v1::PlanModule* out = response.add_modules();
    out->set_name(module.name);
    out->set_bytes(module.bytes);
    out->set_device(module.device);
    out->set_reason(module.reason);
  }
  for (const Segment& segment : plan.segments) {
    v1::PlanSegment* out = response.add_segments();
    out->set_device(plan.devices[static_cast<size_t>(segment.device)].device.name);
    out->set_first_unit(segment.first_unit);
    out->set_last_unit(segment.last_unit);
  }
  response.mutable_device_map()->insert(plan.device_map.begin(), plan.device_map.end());
  response.set_kv_blocks(plan.kv_blocks);
  response.set_kv_cache_tokens(plan.options.kv_cache_tokens);
  response.set_kv_bytes_per_token(plan.kv_bytes_per_token);
  response.set_kv_cache_dtype(std::string(DTypeName(KvDType(plan.options))));
  response.set_tied_head_copied(plan.tied_head_copied);
  response.set_table(PlanTable(plan, /*color=*/false));
  response.set_json(PlanJson(plan));
  return response;
}

}  // namespace causeway
