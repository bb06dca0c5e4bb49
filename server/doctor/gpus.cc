#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/doctor/doctor.h"

namespace causeway {
namespace {

constexpr int64_t kSharedMemoryLeast = int64_t{1} << 30;
constexpr size_t kPairsNamedMax = 4;

// 13020 becomes "13.2".
std::string VersionName(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }
int Major(int version) { return version / 1000; }

// The oldest driver for Linux that serves a major version of CUDA, according to the release notes.
std::string DriverFor(int runtime_version) {
  switch (Major(runtime_version)) {
    case 12: return "driver 525.60.13 or later";
    case 13: return "driver 580.65.06 or later";
  }
  return absl::StrCat("a driver for CUDA ", Major(runtime_version));
}

Finding Versions(const CudaSystem& system) {
  const std::string runtime = absl::StrCat("the runtime is ", VersionName(system.runtime_version));
  if (system.driver_version == 0) {
    return {"CUDA", Grade::kProblem, absl::StrCat("the driver does not answer; ", runtime),
            "nvidia-smi says what is wrong; in a container, hand the GPUs in (docker --gpus all); --devices cpu runs "
            "without"};
  }
  Finding finding{"CUDA", Grade::kGood,
                  absl::StrCat("the driver serves ", VersionName(system.driver_version), ", ", runtime), ""};
  if (Major(system.driver_version) < Major(system.runtime_version)) {
    finding.grade = Grade::kProblem;
    finding.remedy = absl::StrCat("the driver is too old: CUDA ", VersionName(system.runtime_version), " needs ",
                                  DriverFor(system.runtime_version), "; --devices cpu runs without");
  } else if (system.runtime_version != system.built_version) {
    finding.grade = Major(system.runtime_version) == Major(system.built_version) ? Grade::kAdvice : Grade::kProblem;
    absl::StrAppend(&finding.found, ", and this program was built with ", VersionName(system.built_version));
    finding.remedy = absl::StrCat(
        "another library than the build's was found: start without the LD_LIBRARY_PATH that names it, or install CUDA ",
        VersionName(system.built_version));
  } else if (system.driver_version < system.runtime_version) {
    finding.grade = Grade::kAdvice;
    finding.remedy = absl::StrCat(
        "it runs what was compiled for its GPUs, but compiles nothing for newer ones: update the driver to one for "
        "CUDA ",
        VersionName(system.runtime_version));
  }
  return finding;
}

// What NVML says of it: ", others hold 2 GiB, 41 °C, 120 of 700 W". Nobody but others holds memory while doctor looks.
std::string Condition(const GpuReading& reading) {
  std::string text;
  if (reading.used_bytes.value_or(0) > 0) absl::StrAppend(&text, ", others hold ", FormatBytes(*reading.used_bytes));
  if (reading.temperature_celsius.has_value()) absl::StrAppend(&text, ", ", *reading.temperature_celsius, " °C");
  if (reading.power_watts.has_value() && reading.power_limit_watts.has_value())
    absl::StrAppendFormat(&text, ", %.0f of %.0f W", *reading.power_watts, *reading.power_limit_watts);
  return text;
}

// Those that cost much and that somebody can mend: a limit on power is there by design.
std::vector<std::string> Slowdowns(const GpuReading& reading) {
  std::vector<std::string> reasons;
  for (const auto& [reason, now] : reading.throttled) {
    if (now && absl::EndsWith(reason, "slowdown")) reasons.push_back(reason);
  }
  return reasons;
}

Finding Gpu(const Device& gpu, const GpuReading& reading) {
  if (gpu.memory_bytes == 0) {  // its name holds what the driver said
    return {gpu.name, Grade::kAdvice, gpu.model,
            "it is left out; nvidia-smi shows whether it is broken, or another process has it alone"};
  }
  if (const absl::Status able = CanCompute(gpu); !able.ok())
    return {gpu.name, Grade::kAdvice, std::string(able.message()), "it is left out; --devices names others, or cpu"};
  Finding finding{gpu.name, Grade::kGood,
                  absl::StrCat(gpu.model, ", ", FormatBytes(gpu.available_bytes), " of ", FormatBytes(gpu.memory_bytes),
                               " free", Condition(reading)),
                  ""};
  if (reading.ecc_uncorrected.value_or(0) > 0) {
    finding.grade = Grade::kAdvice;
    absl::StrAppend(&finding.found, ", ", *reading.ecc_uncorrected,
                    " errors of memory that could not be corrected since the driver was loaded");
    finding.remedy =
        "what it computes may be wrong: nvidia-smi -q -d ECC,ROW_REMAPPER says more; reset it "
        "(nvidia-smi --gpu-reset), and replace it if they come again";
    return finding;
  }
  if (const std::vector<std::string> slowdowns = Slowdowns(reading); !slowdowns.empty()) {
    finding.grade = Grade::kAdvice;
    absl::StrAppend(&finding.found, ", slowed down (", absl::StrJoin(slowdowns, ", "), ")");
    finding.remedy = "its clocks are held down: see to cooling and the power supply; nvidia-smi -q -d PERFORMANCE";
    return finding;
  }
  if (gpu.available_bytes < gpu.memory_bytes / 2) {
    finding.grade = Grade::kAdvice;
    finding.remedy = "others hold more than half of its memory: nvidia-smi shows who";
  }
  return finding;
}

Finding Links(const std::vector<CudaLink>& links) {
  std::vector<std::string> apart;
  size_t nvlink = 0;
  for (const CudaLink& link : links) {
    if (!link.peer_access) apart.push_back(absl::StrCat(link.from, "-", link.to));
    nvlink += link.peer_access && link.native_atomics;
  }
  std::vector<std::string> kinds;
  const auto add = [&kinds](size_t count, absl::string_view how) {
    if (count > 0) kinds.push_back(absl::StrCat(count, count == 1 ? " pair " : " pairs ", how));
  };
  add(nvlink, "over NVLink");
  add(links.size() - apart.size() - nvlink, "over PCIe");
  add(apart.size(), "by way of the CPU's memory");
  Finding finding{"GPU links", Grade::kGood, absl::StrJoin(kinds, ", "), ""};
  if (!apart.empty()) {
    const bool many = apart.size() > kPairsNamedMax;
    if (many) apart.resize(kPairsNamedMax);
    finding.grade = Grade::kAdvice;
    finding.remedy = absl::StrCat(
        "hidden states between GPUs ", absl::StrJoin(apart, ", "), many ? ", ..." : "",
        " are copied twice: PCIe access control (ACS) and the IOMMU keep peers apart, and nvidia-smi topo -p2p r shows "
        "them; or choose GPUs that are linked (--devices cuda:0,1)");
  }
  return finding;
}

Finding SharedMemory(size_t gpus) {
  struct statvfs shared{};
  const int64_t bytes = statvfs("/dev/shm", &shared) == 0 ? static_cast<int64_t>(shared.f_blocks * shared.f_frsize) : 0;
  if (gpus < 2 || bytes >= kSharedMemoryLeast) return {"shared memory", Grade::kGood, FormatBytes(bytes), ""};
  return {"shared memory", Grade::kAdvice, FormatBytes(bytes),
          "GPUs exchange through /dev/shm: give the container more (docker --shm-size 1g)"};
}

// The driver locks pages itself. The limit of the process binds it only in some containers and virtual machines, so the
// trial counts.
Finding LockedMemory(const CudaSystem& system) {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string allowed = limit.rlim_cur == RLIM_INFINITY
                                  ? "without a limit"
                                  : absl::StrCat("limit ", FormatBytes(static_cast<int64_t>(limit.rlim_cur)));
  const std::string trial = FormatBytes(kPinnedTrialBytes);
  if (system.pins_memory)
    return {"locked memory", Grade::kGood, absl::StrCat(trial, " were locked in a trial (", allowed, ")"), ""};
  return {"locked memory", Grade::kAdvice, absl::StrCat(trial, " could not be locked (", allowed, ")"),
          "copies to GPUs are slower from memory that can move: raise the limit (ulimit -l unlimited, "
          "LimitMEMLOCK=infinity in the systemd "
          "unit, docker --ulimit memlock=-1) and the memory of the container"};
}

}  // namespace

std::vector<Finding> ExamineGpus(const std::vector<Device>& gpus, const CudaSystem& system) {
  std::vector<Finding> findings = {Versions(system)};
  if (gpus.empty()) {
    findings.push_back({"GPUs", Grade::kGood, "none; models run on the CPU", ""});
    return findings;
  }
  for (const Device& gpu : gpus) {
    const auto reading = system.readings.find(gpu.id);
    findings.push_back(Gpu(gpu, reading == system.readings.end() ? GpuReading() : reading->second));
  }
  if (!system.links.empty()) findings.push_back(Links(system.links));
  findings.push_back(SharedMemory(gpus.size()));
  findings.push_back(LockedMemory(system));
  return findings;
}

}  // namespace causeway
