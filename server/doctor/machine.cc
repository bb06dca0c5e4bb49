#include "engine/plan/machine.h"

#include <sys/resource.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/kernel_file.h"
#include "engine/device/cuda_library.h"
#include "engine/measure/bandwidth.h"
#include "engine/ops/cpu/isa.h"
#include "engine/plan/catalogue.h"
#include "engine/threads/processors.h"
#include "server/doctor/doctor.h"
#include "server/startup/address.h"

namespace causeway {
namespace {

constexpr rlim_t kFilesLeast = 4096;  // one for each shard, and one for each client's socket

Finding Processor(const std::string& root, const Device& cpu, int cpu_threads) {
  const Processors processors = ReadProcessors(root);
  const cpu::Isa isa = cpu::SupportedIsas().front();
  Finding finding{"processor", Grade::kGood, "", ""};
  finding.found =
      absl::StrCat(cpu.model, ", processors at hand: ", processors.text(), ", ", cpu::IsaName(isa), " kernels");
  if (isa == cpu::Isa::kPortable) {
    finding.grade = Grade::kAdvice;
    finding.remedy = "the portable kernels are slow: a processor with AVX2 or AVX-512 runs faster ones";
  }
  if (const std::string warning = ThreadsWarning(cpu_threads, processors); !warning.empty()) {
    finding.grade = Grade::kAdvice;
    finding.remedy = warning;
  }
  return finding;
}

Finding HugePages(const std::string& root) {
  const std::string text = ReadKernelFile(root + "/sys/kernel/mm/transparent_hugepage/enabled");
  const size_t from = text.find('['), to = text.find(']');
  const std::string mode =
      from != std::string::npos && to != std::string::npos ? text.substr(from + 1, to - from - 1) : "unknown";
  if (mode == "always" || mode == "madvise") return {"huge pages", Grade::kGood, mode, ""};
  return {"huge pages", Grade::kAdvice, mode,
          "weights are read faster from huge pages: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"};
}

Finding OpenFiles() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= kFilesLeast) return {"open files", Grade::kGood, absl::StrCat("at most ", limit.rlim_cur), ""};
  return {"open files", Grade::kAdvice, absl::StrCat("at most ", limit.rlim_cur),
          absl::StrCat("each client takes one: ulimit -n ", kFilesLeast, ", or LimitNOFILE= in the systemd unit")};
}

}  // namespace

std::vector<Finding> ExamineMachine(const std::string& root, int cpu_threads) {
  const Device cpu = ReadCpuDevice(root);
  std::vector<Finding> findings = {Processor(root, cpu, cpu_threads)};
  findings.push_back({"memory", Grade::kGood,
                      absl::StrCat(FormatBytes(cpu.available_bytes), " of ", FormatBytes(cpu.memory_bytes), " free"),
                      ""});
  findings.push_back(HugePages(root));
  findings.push_back(OpenFiles());
  return findings;
}

std::vector<Finding> ExamineDevices() {
  std::vector<Finding> findings;
  const absl::StatusOr<const CudaLibrary*> cuda = LoadCudaLibrary();
  if (cuda.ok()) {
    const absl::StatusOr<std::vector<Device>> gpus = (*cuda)->devices();  // first: the trials of system() take memory
    findings = ExamineGpus(gpus.ok() ? *gpus : std::vector<Device>(), (*cuda)->system());
  } else if (absl::IsNotFound(cuda.status())) {
    findings.push_back({"GPUs", Grade::kGood, "none; models run on the CPU", ""});
  } else {
    findings.push_back({"GPUs", Grade::kProblem, std::string(cuda.status().message()),
                        "a driver is there that Causeway cannot use: see the message; --devices cpu runs without"});
  }
  const double bandwidth = MeasureReadBandwidth(ProcessorsAtHand());
  findings.push_back(
      {"memory speed", Grade::kGood,
       absl::StrFormat("%.1f GB/s read by all processors, which bounds decoding on the CPU", bandwidth / 1e9), ""});
  return findings;
}

std::vector<Finding> ExamineAddresses(const v1::ServerConfig& config) {
  std::vector<Finding> findings;
  const absl::StatusOr<Address> grpc = ParseAddress(config.listen());
  for (const auto& [what, text] :
       {std::pair<std::string, std::string>{"gRPC address", config.listen()}, {"HTTP address", config.http()}}) {
    if (text.empty()) continue;
    const absl::StatusOr<Address> address = ParseAddress(text);
    const absl::Status status = address.ok() ? TryListening(*address) : address.status();
    const std::string flag = what == "gRPC address" ? "--listen" : "--http";
    if (what == "HTTP address" && address.ok() && grpc.ok() && Overlap(*address, *grpc)) {
      findings.push_back({what, Grade::kProblem,
                          absl::StrCat(text, " overlaps with the gRPC address, ", config.listen()),
                          "name another with --http; empty: none"});
      continue;
    }
    findings.push_back(
        status.ok() ? Finding{what, Grade::kGood, absl::StrCat(text, " is free"), ""}
                    : Finding{what, Grade::kProblem, absl::StrCat(text, ": ", std::string(status.message())),
                              absl::StrCat("name another with ", flag, ", or stop who listens there (ss -ltnp)")});
  }
  return findings;
}

}  // namespace causeway
