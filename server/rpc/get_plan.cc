#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status.h"
#include "engine/device/cuda_library.h"
#include "engine/plan/plan.h"
#include "google/protobuf/descriptor.h"
#include "server/rpc/admin.h"
#include "server/rpc/limits.h"
#include "server/startup/engine_options.h"
#include "server/startup/fields.h"

namespace causeway {
namespace {

v1::GetPlanResponse ToWire(const Plan& plan) {
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
    out->set_device(plan.devices[static_cast<size_t>(segment.device())].device.name);
    for (const int device : segment.devices) out->add_devices(plan.devices[static_cast<size_t>(device)].device.name);
    out->set_replica(segment.replica);
    out->set_first_unit(segment.units.first);
    out->set_last_unit(segment.units.last);
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

// Every field of the request has the name, the range and the texts of a field of the configuration.
const ConfigField& FieldNamed(const std::string& name) {
  const std::vector<ConfigField>& fields = ConfigFields();
  const auto found =
      std::find_if(fields.begin(), fields.end(), [&](const ConfigField& field) { return field.field->name() == name; });
  CAUSEWAY_CHECK(found != fields.end(), "GetPlanRequest.", name, " is no field of the configuration");
  return *found;
}

// The daemon's configuration with the request's fields in it.
absl::StatusOr<LoadedConfig> Changed(const LoadedConfig& started, const v1::GetPlanRequest& request) {
  const std::string& map = request.device_map();
  if (!absl::StartsWith(map, "{") && (absl::EndsWith(map, ".json") || absl::StrContains(map, '/'))) {
    return absl::InvalidArgumentError(
        absl::StrCat("device_map is \"", map.substr(0, 200), "\", a file's name; expected the map itself as JSON"));
  }
  LoadedConfig changed = started;
  std::vector<const google::protobuf::FieldDescriptor*> given;
  request.GetReflection()->ListFields(request, &given);
  for (const google::protobuf::FieldDescriptor* field : given) {
    const bool text = field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING;
    const std::string value = text ? request.GetReflection()->GetString(request, field)
                                   : absl::StrCat(request.GetReflection()->GetInt64(request, field));
    const ConfigField& config = FieldNamed(field->name());
    if (absl::Status status = SetField(config, value, &changed.config); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(field->name(), ": ", std::string(status.message())));
    }
    changed.origins[config.path] = field->name();
  }
  return changed;
}

// Devices that are not named are taken as they were before the daemon used its part of them.
absl::StatusOr<std::vector<Device>> Devices(const Plan& plan, const v1::GetPlanRequest& request) {
  if (!request.has_devices()) {
    std::vector<Device> devices;
    for (const DevicePlan& device : plan.devices) devices.push_back(device.device);
    return devices;
  }
  CAUSEWAY_ASSIGN_OR_RETURN(std::vector<Device> devices, ParseDevices(request.devices(), CudaDevices));
  if (devices.size() > kPlanDevicesMax) {
    return absl::InvalidArgumentError(absl::StrCat("devices \"", request.devices().substr(0, 200), "\": ",
                                                   devices.size(), " devices, expected at most ", kPlanDevicesMax));
  }
  return devices;
}

}  // namespace

absl::StatusOr<v1::GetPlanResponse> HandleGetPlan(RpcContext& context, const Caller& caller,
                                                  const v1::GetPlanRequest& request) {
  if (request.ByteSizeLong() == 0) return ToWire(*context.plan);
  CAUSEWAY_ASSIGN_OR_RETURN(const LoadedConfig changed, Changed(*context.config, request));
  CAUSEWAY_ASSIGN_OR_RETURN(const EngineOptions options, MakeEngineOptions(changed));
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<Device> devices, Devices(*context.plan, request));
  CAUSEWAY_ASSIGN_OR_RETURN(const PlacedModel placed, PlaceModel(options, devices));
  return ToWire(placed.plan);
}

}  // namespace causeway
