#include "engine/plan/catalogue.h"

#include <cmath>

#include "absl/strings/match.h"
#include "engine/base/check.h"
#include "nlohmann/json.hpp"

namespace causeway {

extern const char* const kCatalogueJson;  // made of catalogue.json by the build

namespace {

std::vector<CatalogueDevice> Read() {
  const nlohmann::json json = nlohmann::json::parse(kCatalogueJson);
  std::map<std::string, double> links;
  for (const auto& link : json.at("links")) links[link.at("name")] = link.at("gb_per_second").get<double>() * 1e9;
  std::vector<CatalogueDevice> devices;
  for (const auto& entry : json.at("devices")) {
    CatalogueDevice& device = devices.emplace_back();
    device.name = entry.at("name");
    device.reported = entry.at("reported");
    device.compute_capability = static_cast<int>(std::lround(entry.at("compute_capability").get<double>() * 10));
    device.memory_bytes = entry.at("memory_mib").get<int64_t>() << 20;
    device.memory_bytes_per_second = entry.at("memory_gb_per_second").get<double>() * 1e9;
    for (const auto& [name, tflops] : entry.at("tflops").items()) {
      const DType dtype = name == "fp32"   ? DType::kF32
                          : name == "bf16" ? DType::kBF16
                          : name == "fp16" ? DType::kF16
                          : name == "fp8"  ? DType::kF8E4M3
                                           : DType::kI8;
      CAUSEWAY_CHECK(dtype != DType::kI8 || name == "int8");
      device.flops[dtype] = tflops.get<double>() * 1e12;
    }
    device.nvlink_bytes_per_second = entry.value("nvlink_gb_per_second", 0.0) * 1e9;
    device.nvlink_devices = entry.value("nvlink_devices", 0);
    device.host_bytes_per_second = links.at(entry.at("pcie"));
    device.source = entry.at("source");
  }
  return devices;
}

}  // namespace

const std::vector<CatalogueDevice>& Catalogue() {
  static const std::vector<CatalogueDevice>& devices = *new std::vector<CatalogueDevice>(Read());
  return devices;
}

const LinkLatencies& CatalogueLatencies() {
  static const LinkLatencies latencies = [] {
    const nlohmann::json json = nlohmann::json::parse(kCatalogueJson).at("latencies");
    const auto seconds = [&json](const char* key) { return json.at(key).get<double>() * 1e-6; };
    return LinkLatencies{seconds("start_microseconds"), seconds("nvlink_microseconds"), seconds("pcie_microseconds"),
                         seconds("network_microseconds")};
  }();
  return latencies;
}

double CatalogueDiskBytesPerSecond() {
  static const double speed = nlohmann::json::parse(kCatalogueJson).at("disk").at("gb_per_second").get<double>() * 1e9;
  return speed;
}

const CatalogueDevice* FindInCatalogue(absl::string_view name) {
  for (const CatalogueDevice& device : Catalogue()) {
    if (absl::EqualsIgnoreCase(name, device.name) || absl::EqualsIgnoreCase(name, device.reported)) return &device;
  }
  return nullptr;
}

}  // namespace causeway
