#include "server/cluster/wire_stats.h"

#include "engine/base/status.h"
#include "server/cluster/wire_fields.h"

namespace causeway {
namespace {

// Structured bindings name every field of the engine's types, as in wire.cc.
void Put(int device, const DeviceStats& stats, v1::DeviceCounts* wire) {
  const auto& [memory, busy_seconds, active_seconds, prefill_tokens, decode_tokens, streamed_bytes, collectives,
               cpu_rows, expert_cpu_rows] = stats;
  const auto& [weights, kv_cache, activations, activations_peak, workspace] = memory;
  const auto& [calls, bytes, seconds] = collectives;
  wire->set_device(device);
  wire->set_weights(weights);
  wire->set_kv_cache(kv_cache);
  wire->set_activations(activations);
  wire->set_activations_peak(activations_peak);
  wire->set_workspace(workspace);
  wire->set_busy_seconds(busy_seconds);
  wire->set_active_seconds(active_seconds);
  wire->set_prefill_tokens(prefill_tokens);
  wire->set_decode_tokens(decode_tokens);
  wire->set_streamed_bytes(streamed_bytes);
  wire->set_collective_calls(calls);
  wire->set_collective_bytes(bytes);
  wire->set_collective_seconds(seconds);
  wire->set_cpu_rows(cpu_rows);
  wire->set_expert_cpu_rows(expert_cpu_rows);
}

DeviceStats Take(const v1::DeviceCounts& wire) {
  return {.memory = {.weights = wire.weights(),
                     .kv_cache = wire.kv_cache(),
                     .activations = wire.activations(),
                     .activations_peak = wire.activations_peak(),
                     .workspace = wire.workspace()},
          .busy_seconds = wire.busy_seconds(),
          .active_seconds = wire.active_seconds(),
          .prefill_tokens = wire.prefill_tokens(),
          .decode_tokens = wire.decode_tokens(),
          .streamed_bytes = wire.streamed_bytes(),
          .collectives = {.calls = wire.collective_calls(),
                          .bytes = wire.collective_bytes(),
                          .seconds = wire.collective_seconds()},
          .cpu_rows = wire.cpu_rows(),
          .expert_cpu_rows = wire.expert_cpu_rows()};
}

void Put(int layer, const ExpertLoad& load, v1::ExpertCounts* wire) {
  const auto& [steps, busy, busiest, tokens, expert_bytes] = load;
  wire->set_layer(layer);
  wire->set_steps(steps);
  wire->set_busy(busy);
  wire->set_busiest(busiest);
  Fill(tokens, wire->mutable_tokens());
  wire->set_expert_bytes(expert_bytes);
}

}  // namespace

v1::ClusterDevice ToWire(const Device& device) {
  const auto& [kind, id, name, model, memory_bytes, available_bytes, host_bytes, at_hand, compute_capability, index,
               process, host, uuid] = device;
  v1::ClusterDevice wire;
  wire.set_kind(static_cast<int32_t>(kind));
  wire.set_id(id);
  wire.set_index(index);
  wire.set_name(name);
  wire.set_model(model);
  wire.set_memory_bytes(memory_bytes);
  wire.set_available_bytes(available_bytes);
  wire.set_host_bytes(host_bytes);
  wire.set_at_hand(at_hand);
  wire.set_compute_capability(compute_capability);
  wire.set_process(process);
  wire.set_host(host);
  wire.set_uuid(uuid);
  return wire;
}

absl::StatusOr<Device> FromWire(const v1::ClusterDevice& wire) {
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("kind", wire.kind(), 0, static_cast<int32_t>(DeviceKind::kSimulated)));
  return Device{.kind = static_cast<DeviceKind>(wire.kind()),
                .id = wire.id(),
                .name = wire.name(),
                .model = wire.model(),
                .memory_bytes = wire.memory_bytes(),
                .available_bytes = wire.available_bytes(),
                .host_bytes = wire.host_bytes(),
                .at_hand = wire.at_hand(),
                .compute_capability = wire.compute_capability(),
                .index = wire.index(),
                .process = wire.process(),
                .host = wire.host(),
                .uuid = wire.uuid()};
}

v1::ReplicaStats ToWire(int replica, const ExecutorStats& stats, const std::vector<int>& own) {
  const auto& [devices, transfers, start, not_finite, experts] = stats;
  v1::ReplicaStats wire;
  wire.set_replica(replica);
  for (const int device : own) Put(device, devices.at(device), wire.add_devices());
  for (const auto& [from, to, bytes] : transfers) {
    v1::TransferCount* count = wire.add_transfers();
    count->set_from(from);
    count->set_to(to);
    count->set_bytes(bytes);
  }
  const auto& [memory, warm_up] = start;
  wire.mutable_start()->set_memory(memory);
  wire.mutable_start()->set_warm_up(warm_up);
  for (const auto& [tensor, values] : not_finite) {
    v1::NotFiniteTensor* count = wire.add_not_finite();
    count->set_tensor(tensor);
    count->set_values(values);
  }
  for (const auto& [layer, load] : experts) Put(layer, load, wire.add_experts());
  return wire;
}

ExecutorStats FromWire(const v1::ReplicaStats& wire, size_t devices) {
  ExecutorStats stats;
  stats.devices.resize(devices);
  for (const v1::DeviceCounts& counts : wire.devices()) {
    if (counts.device() >= 0 && static_cast<size_t>(counts.device()) < devices)
      stats.devices[counts.device()] = Take(counts);
  }
  for (const v1::TransferCount& count : wire.transfers())
    stats.transfers.push_back({count.from(), count.to(), count.bytes()});
  stats.start = {.memory = wire.start().memory(), .warm_up = wire.start().warm_up()};
  for (const v1::NotFiniteTensor& count : wire.not_finite()) stats.not_finite[count.tensor()] = count.values();
  for (const v1::ExpertCounts& counts : wire.experts()) {
    stats.experts[counts.layer()] = {.steps = counts.steps(),
                                     .busy = counts.busy(),
                                     .busiest = counts.busiest(),
                                     .tokens = Values(counts.tokens()),
                                     .expert_bytes = counts.expert_bytes()};
  }
  return stats;
}

}  // namespace causeway
