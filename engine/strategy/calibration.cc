#include "engine/strategy/calibration.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/checkpoint/json.h"

namespace causeway {
namespace {

constexpr int kVersion = 2;
constexpr double kRateMax = 1e18;

// A number in [least, most].
absl::Status Read(const Json& object, const std::string& path, absl::string_view key, double least, double most,
                  double* value) {
  const std::string name = absl::StrCat(path, ".", key);
  const auto found = object.find(std::string(key));
  if (found == object.end()) return absl::InvalidArgumentError(absl::StrCat(name, " is missing"));
  if (!found->is_number() || !(found->get<double>() >= least && found->get<double>() <= most)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": expected a number from ", least, " to ", most, ", got ", JsonExcerpt(*found)));
  }
  *value = found->get<double>();
  return absl::OkStatus();
}

absl::Status ReadObject(const Json& parent, const std::string& path, absl::string_view key, const Json** value) {
  const auto found = parent.find(std::string(key));
  if (found == parent.end()) return absl::InvalidArgumentError(absl::StrCat(path, ".", key, " is missing"));
  if (!found->is_object())
    return absl::InvalidArgumentError(absl::StrCat(path, ".", key, ": expected an object, got ", JsonKind(*found)));
  *value = &*found;
  return absl::OkStatus();
}

absl::Status ReadWork(const Json& object, const std::string& path, WorkSpeed* speed) {
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "bytes_per_second", 1, kRateMax, &speed->bytes_per_second));
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "flops", 1, kRateMax, &speed->flops));
  return Read(object, path, "overlap", 0, 1, &speed->overlap);
}

absl::Status ReadLinears(const Json& parent, const std::string& path, absl::string_view key,
                         std::map<std::string, WorkSpeed>* linears) {
  const Json* object = nullptr;
  CAUSEWAY_RETURN_IF_ERROR(ReadObject(parent, path, key, &object));
  for (const auto& [format, speed] : object->items()) {
    const std::string inside = absl::StrCat(path, ".", key, ".", format);
    if (!speed.is_object())
      return absl::InvalidArgumentError(absl::StrCat(inside, ": expected an object, got ", JsonKind(speed)));
    CAUSEWAY_RETURN_IF_ERROR(ReadWork(speed, inside, &(*linears)[format]));
  }
  return absl::OkStatus();
}

absl::Status ReadDevice(const Json& object, const std::string& path, DeviceSpeed* device) {
  CAUSEWAY_RETURN_IF_ERROR(ReadLinears(object, path, "linears", &device->linears));
  if (device->linears.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ".linears is empty"));
  const Json* child = nullptr;
  CAUSEWAY_RETURN_IF_ERROR(ReadObject(object, path, "attention", &child));
  CAUSEWAY_RETURN_IF_ERROR(ReadWork(*child, absl::StrCat(path, ".attention"), &device->attention));
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "row_bytes_per_second", 1, kRateMax, &device->row_bytes_per_second));
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "step_seconds", 0, 1, &device->step_seconds));
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "layer_seconds", 0, 1, &device->layer_seconds));
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "sample_seconds", 0, 1, &device->sample_seconds));
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "copy_bytes_per_second", 1, kRateMax, &device->copy_bytes_per_second));
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "hand_over_seconds", 0, 1, &device->hand_over_seconds));
  double threads = 0, cache = 0;
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "threads", 1, 1e6, &threads));
  device->threads = static_cast<int>(threads);
  CAUSEWAY_RETURN_IF_ERROR(Read(object, path, "cache_bytes", 0, 1e15, &cache));
  device->cache_bytes = static_cast<int64_t>(cache);
  return ReadLinears(object, path, "cached_linears", &device->cached_linears);
}

absl::StatusOr<Calibration> ReadCalibration(const Json& json) {
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat("expected an object, got ", JsonKind(json)));
  double version = 0;
  CAUSEWAY_RETURN_IF_ERROR(Read(json, "", "version", 0, 1e6, &version));
  if (version != kVersion) {
    return absl::FailedPreconditionError(absl::StrCat("is of version ", version, ", expected ", kVersion,
                                                      ": measure again with causewayd plan --calibrate"));
  }
  Calibration calibration;
  CAUSEWAY_RETURN_IF_ERROR(Read(json, "", "disk_bytes_per_second", 0, kRateMax, &calibration.disk_bytes_per_second));
  const Json* devices = nullptr;
  CAUSEWAY_RETURN_IF_ERROR(ReadObject(json, "", "devices", &devices));
  for (const auto& [model, device] : devices->items()) {
    const std::string path = absl::StrCat("devices.", model);
    if (!device.is_object())
      return absl::InvalidArgumentError(absl::StrCat(path, ": expected an object, got ", JsonKind(device)));
    CAUSEWAY_RETURN_IF_ERROR(ReadDevice(device, path, &calibration.devices[model]));
  }
  return calibration;
}

nlohmann::ordered_json WorkJson(const WorkSpeed& speed) {
  return {{"bytes_per_second", speed.bytes_per_second}, {"flops", speed.flops}, {"overlap", speed.overlap}};
}
nlohmann::ordered_json LinearsJson(const std::map<std::string, WorkSpeed>& linears) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [format, speed] : linears) json[format] = WorkJson(speed);
  return json;
}

}  // namespace

double WorkSpeed::Seconds(double bytes, double flop) const {
  const double reading = bytes / bytes_per_second, computing = flop / flops;
  return std::max(reading, computing) + (1 - overlap) * std::min(reading, computing);
}

WorkSpeed FitWorkSpeed(const std::vector<WorkTime>& times) {
  WorkSpeed best{.bytes_per_second = 1, .flops = 1};
  for (const WorkTime& time : times) {
    best.bytes_per_second = std::max(best.bytes_per_second, time.bytes / time.seconds);
    best.flops = std::max(best.flops, time.flop / time.seconds);
  }
  const auto error = [&times](const WorkSpeed& speed) {
    double sum = 0;
    for (const WorkTime& time : times) {
      const double ratio = std::log(speed.Seconds(time.bytes, time.flop) / time.seconds);
      sum += ratio * ratio;
    }
    return sum;
  };
  // From a coarse grid around the fastest seen to finer ones around the best so far.
  double least = error(best);
  for (double width : {1.0, 0.25, 0.06, 0.015}) {
    const WorkSpeed center = best;
    for (int b = -8; b <= 8; ++b) {
      for (int f = -8; f <= 8; ++f) {
        for (int o = -8; o <= 8; ++o) {
          const WorkSpeed tried{.bytes_per_second = center.bytes_per_second * std::exp(width * b / 8),
                                .flops = center.flops * std::exp(width * f / 8),
                                .overlap = std::clamp(center.overlap + width * o / 8, 0.0, 1.0)};
          if (const double now = error(tried); now < least) least = now, best = tried;
        }
      }
    }
  }
  return best;
}

const WorkSpeed* DeviceSpeed::Linears(const std::string& format, DType dtype, int64_t weights) const {
  if (const auto cached = cached_linears.find(format); weights <= cache_bytes && cached != cached_linears.end())
    return &cached->second;
  for (const std::string& name : {format, std::string(DTypeName(dtype)), std::string(DTypeName(DType::kF32))}) {
    if (const auto found = linears.find(name); found != linears.end()) return &found->second;
  }
  return nullptr;
}

DeviceSpeed AssumedSpeed(const CatalogueDevice& device) {
  DeviceSpeed speed;
  // Quantized weights are widened to the dtype before they are multiplied, so that only dtypes have a speed of their
  // own.
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const auto flops = device.flops.find(dtype);
    if (flops == device.flops.end()) continue;
    speed.linears[std::string(DTypeName(dtype))] = {.bytes_per_second = kMemoryShare * device.memory_bytes_per_second,
                                                    .flops = kFlopsShare * flops->second};
  }
  speed.attention = *speed.Linears("bf16", DType::kF16, 1);
  speed.step_seconds = kStepSeconds;
  speed.layer_seconds = kLayerSeconds;
  speed.sample_seconds = kSampleSeconds;
  speed.hand_over_seconds = kHandOverSeconds;
  speed.row_bytes_per_second = kMemoryShare * device.memory_bytes_per_second;
  speed.copy_bytes_per_second = kLinkShare * device.host_bytes_per_second;
  return speed;
}

std::string CalibrationJson(const Calibration& calibration) {
  nlohmann::ordered_json json = {{"version", kVersion}, {"disk_bytes_per_second", calibration.disk_bytes_per_second}};
  json["devices"] = nlohmann::ordered_json::object();
  for (const auto& [model, device] : calibration.devices) {
    json["devices"][model] = {{"linears", LinearsJson(device.linears)},
                              {"attention", WorkJson(device.attention)},
                              {"row_bytes_per_second", device.row_bytes_per_second},
                              {"step_seconds", device.step_seconds},
                              {"layer_seconds", device.layer_seconds},
                              {"sample_seconds", device.sample_seconds},
                              {"copy_bytes_per_second", device.copy_bytes_per_second},
                              {"hand_over_seconds", device.hand_over_seconds},
                              {"threads", device.threads},
                              {"cache_bytes", device.cache_bytes},
                              {"cached_linears", LinearsJson(device.cached_linears)}};
  }
  return json.dump(2) + "\n";
}

absl::StatusOr<Calibration> ParseCalibration(absl::string_view text, absl::string_view what) {
  CAUSEWAY_ASSIGN_OR_RETURN(const Json json, ParseJson(text, what));
  absl::StatusOr<Calibration> read = ReadCalibration(json);
  if (!read.ok())
    return absl::Status(read.status().code(), absl::StrCat(what, ": ", std::string(read.status().message())));
  return read;
}

}  // namespace causeway
