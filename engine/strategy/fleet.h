// Devices with what they reach, on nodes, and the links between them.
#ifndef CAUSEWAY_ENGINE_STRATEGY_FLEET_H_
#define CAUSEWAY_ENGINE_STRATEGY_FLEET_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/plan/device.h"
#include "engine/strategy/calibration.h"

namespace causeway {

// A way for bytes between devices, in one direction of one device.
struct Link {
  std::string name;  // "NVLink", "PCIe", "network", "memory"
  double bytes_per_second = 0;
  double hop_seconds = 0;  // of a message without bytes
};

struct FleetDevice {
  Device device;
  int node = 0;
  int64_t budget = 0;   // bytes that may be used
  int64_t reserve = 0;  // of these, the context's and the libraries'
  DeviceSpeed speed;
  bool measured = false;  // the speed, rather than assumed
  double turns =
      1;        // the part of the time in which it computes where all want to: simulated ones may be more than threads
  Link host;    // to others of its node, through the host
  Link nvlink;  // to others of its NVLink group; 0 bytes per second: none
  int nvlink_group = -1;
  // Offloaded weights: its share of its node's CPU memory and of its disk, and how fast they come from there.
  int64_t cpu_bytes = 0;
  double cpu_bytes_per_second = 0,
         disk_bytes_per_second = 0;  // infinity: computed from where they are; of the disk 0: none may be there
  // Whether what leaves either goes to the same places.
  bool OffloadsLike(const FleetDevice& other) const {
    return cpu_bytes == other.cpu_bytes && (disk_bytes_per_second > 0) == (other.disk_bytes_per_second > 0);
  }
  bool Like(const FleetDevice& other) const {
    return device.model == other.device.model && budget == other.budget && device.kind == other.device.kind;
  }
};

struct Fleet {
  std::vector<FleetDevice> devices;
  int nodes = 1;
  Link network;
  bool disk_measured = false;  // its speed, rather than assumed
};

struct FleetOptions {
  int nodes = 1;                           // devices are divided among them evenly, in their order
  double network_bytes_per_second = 50e9;  // of each device, in one direction
  // As the plan has it: "cpu" is the memory of each node that weights may be offloaded to. Without it and without a
  // disk, as much as they take.
  std::map<std::string, int64_t> max_memory;
  bool offload_to_disk = false;
  bool offload_stream = false;  // the CPU does not compute from offloaded weights where they are
  std::string cpu_model;        // by which the CPU was measured; simulated devices have equal shares of it
  int cpu_threads = 0;          // 0: as many as it was measured with
};

// Of the devices that have a budget. InvalidArgument: nodes that the devices cannot be divided among; a device whose
// speed is neither measured nor in the catalogue, or measured with another number of threads.
absl::StatusOr<Fleet> MakeFleet(const std::vector<Device>& devices, const FleetOptions& options,
                                const Calibration& calibration);

// The slowest link among devices first .. first + count - 1.
const Link& SlowestLink(const Fleet& fleet, int first, int count);
const Link& LinkBetween(const Fleet& fleet, int a, int b);

// "400Gb/s" or "50GB/s" -> bytes a second.
absl::StatusOr<double> ParseLinkSpeed(absl::string_view text);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_FLEET_H_
