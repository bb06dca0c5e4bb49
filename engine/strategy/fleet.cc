#include "engine/strategy/fleet.h"

#include <algorithm>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status.h"
#include "engine/plan/budgets.h"

namespace causeway {
namespace {

constexpr double kLinkSpeedMax = 1e15;
constexpr int64_t kNoLimit = int64_t{1} << 60;

absl::Status SetSpeed(const FleetOptions& options, const Calibration& calibration, int sharing, FleetDevice* fleet) {
  const Device& device = fleet->device;
  const bool cuda = device.kind == DeviceKind::kCuda;
  const CatalogueDevice* entry = cuda ? FindInCatalogue(device.model) : nullptr;
  const LinkLatencies& latencies = CatalogueLatencies();
  const std::string model = entry != nullptr ? entry->name : cuda ? device.model : options.cpu_model;
  const auto measured = calibration.devices.find(model);
  fleet->measured = measured != calibration.devices.end();
  if (fleet->measured) {
    fleet->speed = measured->second;
  } else if (entry != nullptr) {
    fleet->speed = AssumedSpeed(*entry);
  } else {
    return absl::InvalidArgumentError(absl::StrCat("the speed of ", device.name, " (", model,
                                                   ") is not known: it is not in the catalogue, and no calibration has "
                                                   "it; measure it with causewayd plan --calibrate"));
  }
  DeviceSpeed& speed = fleet->speed;
  fleet->cpu_bytes_per_second =
      cuda || options.offload_stream ? speed.copy_bytes_per_second : std::numeric_limits<double>::infinity();
  if (entry != nullptr) {
    fleet->host = {"PCIe", kLinkShare * entry->host_bytes_per_second, latencies.pcie_seconds};
    fleet->nvlink = {"NVLink", kLinkShare * entry->nvlink_bytes_per_second, latencies.nvlink_seconds};
    return absl::OkStatus();
  }
  fleet->host = {cuda ? "PCIe" : "memory", speed.copy_bytes_per_second, cuda ? latencies.pcie_seconds : 0};
  if (cuda) return absl::OkStatus();
  if (options.cpu_threads > 0 && options.cpu_threads != speed.threads) {
    return absl::InvalidArgumentError(absl::StrCat("the speed of ", device.name, " (", model, ") was measured with ",
                                                   speed.threads, " threads, and cpu_threads is ", options.cpu_threads,
                                                   "; measure it with causewayd plan --calibrate --cpu-threads ",
                                                   options.cpu_threads));
  }
  // Simulated devices compute at the same time, each with its share of one processor's threads and memory; where they
  // are more than threads, each has one, and they take turns.
  const int threads_each = std::max(1, speed.threads / sharing);
  const double share = static_cast<double>(threads_each) / speed.threads;
  fleet->turns = std::min(1.0, 1 / (share * sharing));
  for (auto* linears : {&speed.linears, &speed.cached_linears}) {
    for (auto& [format, rates] : *linears) rates.bytes_per_second *= share, rates.flops *= share;
  }
  speed.attention.bytes_per_second *= share;
  speed.attention.flops *= share;
  speed.row_bytes_per_second *= share;
  speed.cache_bytes /= sharing;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Fleet> MakeFleet(const std::vector<Device>& devices, const FleetOptions& options,
                                const Calibration& calibration) {
  const int count = static_cast<int>(devices.size());
  if (options.nodes < 1 || options.nodes > count || count % options.nodes != 0) {
    return absl::InvalidArgumentError(absl::StrCat(count, count == 1 ? " device" : " devices",
                                                   " cannot be divided evenly among ", options.nodes, " nodes"));
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const Budgets budgets, MakeBudgets(devices, options.max_memory));
  Fleet fleet{.devices = {},
              .nodes = options.nodes,
              .network = {"network", options.network_bytes_per_second, CatalogueLatencies().network_seconds}};
  const auto is_used = [&budgets](int i) { return budgets.bytes[i] > 0; };
  int on_processor = 0;
  for (int i = 0; i < count; ++i) on_processor += is_used(i) && ComputesOnCpu(devices[i].kind);
  // One that is not at hand says nothing of its machine's disk.
  fleet.disk_measured = calibration.disk_bytes_per_second > 0 &&
                        std::all_of(devices.begin(), devices.end(), [](const Device& d) { return d.at_hand; });
  const double disk =
      fleet.disk_measured ? calibration.disk_bytes_per_second : kDiskShare * CatalogueDiskBytesPerSecond();
  const bool limited = options.max_memory.contains("cpu") || options.offload_to_disk || budgets.cpu_offload_bytes > 0;
  int group = -1, in_group = 0;
  for (int i = 0; i < count; ++i) {
    if (!is_used(i)) continue;
    FleetDevice& device = fleet.devices.emplace_back();
    device.device = devices[i];
    device.node = i / (count / options.nodes);
    device.budget = budgets.bytes[i];
    device.reserve = ReserveBytes(devices[i]);
    CAUSEWAY_RETURN_IF_ERROR(SetSpeed(options, calibration, std::max(1, on_processor), &device));
    if (device.nvlink.bytes_per_second <= 0) continue;
    // Neighbours of one kind and one node, as many as NVLink joins.
    const FleetDevice* before = fleet.devices.size() > 1 ? &fleet.devices[fleet.devices.size() - 2] : nullptr;
    const bool joins = before != nullptr && before->nvlink_group >= 0 && before->node == device.node &&
                       before->device.model == device.device.model &&
                       in_group < FindInCatalogue(device.device.model)->nvlink_devices;
    if (!joins) ++group, in_group = 0;
    ++in_group;
    device.nvlink_group = group;
  }
  for (FleetDevice& device : fleet.devices) {
    const auto neighbours = std::count_if(fleet.devices.begin(), fleet.devices.end(),
                                          [&device](const FleetDevice& d) { return d.node == device.node; });
    if (device.device.kind != DeviceKind::kCpu)
      device.cpu_bytes = (limited ? budgets.cpu_offload_bytes : kNoLimit) / neighbours;
    if (options.offload_to_disk) device.disk_bytes_per_second = disk / static_cast<double>(neighbours);
  }
  return fleet;
}

const Link& LinkBetween(const Fleet& fleet, int a, int b) {
  const FleetDevice &one = fleet.devices[a], &other = fleet.devices[b];
  if (one.node != other.node) return fleet.network;
  if (one.nvlink_group >= 0 && one.nvlink_group == other.nvlink_group) return one.nvlink;
  return one.host.bytes_per_second <= other.host.bytes_per_second ? one.host : other.host;
}

const Link& SlowestLink(const Fleet& fleet, int first, int count) {
  const Link* slowest = &LinkBetween(fleet, first, first + std::min(1, count - 1));
  for (int i = first; i + 1 < first + count; ++i) {
    const Link& link = LinkBetween(fleet, i, i + 1);
    if (link.bytes_per_second < slowest->bytes_per_second) slowest = &link;
  }
  return *slowest;
}

absl::StatusOr<double> ParseLinkSpeed(absl::string_view text) {
  absl::string_view number = text;
  const bool bits = absl::ConsumeSuffix(&number, "Gb/s");
  double value = 0;
  if ((bits || absl::ConsumeSuffix(&number, "GB/s")) && absl::SimpleAtod(number, &value) && value > 0 &&
      value * 1e9 <= kLinkSpeedMax) {
    return value * 1e9 / (bits ? 8 : 1);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("expected a speed such as \"400Gb/s\" (bits) or \"50GB/s\" (bytes), got \"", text, "\""));
}

}  // namespace causeway
