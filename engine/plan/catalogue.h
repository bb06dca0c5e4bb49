// GPUs that plans may be made for without having them: catalogue.json, which is compiled in.
#ifndef CAUSEWAY_ENGINE_PLAN_CATALOGUE_H_
#define CAUSEWAY_ENGINE_PLAN_CATALOGUE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/dtype.h"

namespace causeway {

// Of one device, as its maker says; links in one direction.
struct CatalogueDevice {
  std::string name;            // as --devices has it: "H100-80GB"
  std::string reported;        // what the driver calls it: "NVIDIA H100 80GB HBM3"
  int compute_capability = 0;  // 90 is 9.0
  int64_t memory_bytes = 0;
  double memory_bytes_per_second = 0;
  std::map<DType, double> flops;       // dense, a second; of the dtypes that it computes natively
  double nvlink_bytes_per_second = 0;  // to others of its kind; 0: it has none
  int nvlink_devices = 0;              // so many of its kind are joined by it
  double host_bytes_per_second = 0;
  std::string source;
};

// In the file's order. Aborts if the file is wrong, which a test would see first.
const std::vector<CatalogueDevice>& Catalogue();

// Of a collective or a transfer of few bytes: once, and for each hop from device to device.
struct LinkLatencies {
  double start_seconds = 0, nvlink_seconds = 0, pcie_seconds = 0, network_seconds = 0;
};
const LinkLatencies& CatalogueLatencies();

// Of a drive that a machine of today has, read front to back.
double CatalogueDiskBytesPerSecond();

// By name or by what the driver reports, in either case; null: none.
const CatalogueDevice* FindInCatalogue(absl::string_view name);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_CATALOGUE_H_
