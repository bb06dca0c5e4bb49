#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/base/limits.h"
#include "engine/base/listed.h"
#include "engine/checkpoint/file.h"
#include "engine/plan/budgets.h"
#include "engine/plan/capacity.h"
#include "engine/plan/unit_table.h"
#include "engine/text_files.h"
#include "server/doctor/doctor.h"

namespace causeway {
namespace {

constexpr int64_t kSampleBytes = int64_t{256} << 20, kPieceBytes = int64_t{4} << 20;
constexpr double kSlowDisk = 0.5e9;  // bytes a second: 10 GB take 20 s

constexpr double kSlowSeconds = 20;  // nobody minds these at startup
constexpr size_t kDevicesNamedMax = 4;

// How fast the disk gives the beginning of the largest file, as far as the kernel drops it from memory when asked to.
Finding DiskSpeed(const Checkpoint& checkpoint) {
  Finding finding{"disk", Grade::kGood, "", ""};
  std::string largest;
  int64_t bytes = 0, all = 0;
  for (const std::string& path : checkpoint.files()) {
    const absl::StatusOr<File> file = File::Open(path);
    if (file.ok()) all += static_cast<int64_t>(file->bytes());
    if (file.ok() && static_cast<int64_t>(file->bytes()) > bytes)
      bytes = static_cast<int64_t>(file->bytes()), largest = path;
  }
  const absl::StatusOr<File> file = File::Open(largest);
  if (!file.ok())
    return {"disk", Grade::kProblem, std::string(file.status().message()),
            "make the file readable for the daemon's user"};
  bytes = std::min(bytes, kSampleBytes);
  ::posix_fadvise(file->descriptor(), 0, bytes, POSIX_FADV_DONTNEED);
  std::vector<char> piece(kPieceBytes);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t offset = 0; offset < bytes; offset += kPieceBytes) {
    const absl::Status status = ReadExactly(
        file->descriptor(), offset, absl::MakeSpan(piece.data(), std::min(kPieceBytes, bytes - offset)), largest);
    if (!status.ok()) return {"disk", Grade::kProblem, std::string(status.message()), "copy the model again"};
  }
  const double speed =
      static_cast<double>(bytes) / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  finding.found = absl::StrFormat("%.2f GB/s over the first %s of %s", speed / 1e9, FormatBytes(bytes), largest);
  if (const double seconds = static_cast<double>(all) / speed; speed < kSlowDisk && seconds > kSlowSeconds) {
    finding.grade = Grade::kAdvice;
    finding.remedy =
        absl::StrFormat("a start reads %s, which takes %.0f s at this speed: copy the model to a faster disk",
                        FormatBytes(all), seconds);
  }
  return finding;
}

// The tokenizer and the chat template, read as a start reads them.
std::vector<Finding> Texts(const PlacedModel& model, const std::string& chat_template_file) {
  TextFiles files(model.folder, chat_template_file);
  const absl::StatusOr<TextFiles::Read> read = files.Take();
  if (!read.ok())
    return {
        {"tokenizer", Grade::kProblem, std::string(read.status().message()), "copy the model's tokenizer files again"}};
  if (read->tokenizer == nullptr) return {{"tokenizer", Grade::kGood, "there is none: requests are token ids", ""}};
  std::vector<Finding> findings = {
      {"tokenizer", Grade::kGood,
       absl::StrCat(read->tokenizer->vocab_size(), " tokens, ",
                    read->chat_template != nullptr ? "with a chat template" : "without a chat template"),
       ""}};
  std::vector<std::string> warnings = read->warnings;
  warnings.push_back(VocabularyWarning(*read->tokenizer, model.spec.vocab_size));
  for (const std::string& warning : warnings) {
    if (!warning.empty()) findings.push_back({"tokenizer", Grade::kAdvice, warning, ""});
  }
  return findings;
}

Finding Offload(const Plan& plan, const std::string& folder) {
  Finding finding{"offload", Grade::kGood,
                  absl::StrCat(FormatBytes(plan.offloaded_to_cpu), " of weights come from CPU memory"), ""};
  if (plan.offloaded_to_disk == 0) return finding;
  struct statvfs room{};
  const int64_t free = ::statvfs(folder.c_str(), &room) == 0 ? static_cast<int64_t>(room.f_bavail * room.f_frsize) : 0;
  absl::StrAppend(&finding.found, ", ", FormatBytes(plan.offloaded_to_disk), " from ", folder, ", which has ",
                  FormatBytes(free), " free");
  if (free < plan.offloaded_to_disk) {
    finding.grade = Grade::kAdvice;
    finding.remedy = "make room, unless the file of an earlier run is there";
  }
  return finding;
}

}  // namespace

Finding ExamineFleet(const EngineOptions& options) {
  const auto problem = [](std::string found, std::string remedy) {
    return Finding{"devices", Grade::kProblem, std::move(found), std::move(remedy)};
  };
  const absl::StatusOr<std::vector<Device>> devices = ParseDevices(options.devices, CudaDevices);
  if (!devices.ok())
    return problem(std::string(devices.status().message()), "name others with --devices; cpu is at hand anywhere");
  if (!devices->front().at_hand) {
    return problem(absl::StrCat("\"", options.devices, "\" can be planned for, and nothing runs on them"),
                   "name some that are at hand with --devices: cuda, cpu, simulated:1x4GiB");
  }
  const absl::StatusOr<Budgets> budgets = MakeBudgets(*devices, options.plan.max_memory);
  if (!budgets.ok())
    return problem(std::string(budgets.status().message()), "give other budgets with --max-memory, or none");
  std::vector<std::string> names;
  int64_t simulated = 0;
  for (size_t i = 0; i < devices->size(); ++i) {
    const int64_t bytes = budgets->bytes[i];
    if ((*devices)[i].kind == DeviceKind::kSimulated) simulated += bytes;
    names.push_back(bytes > 0 ? absl::StrCat((*devices)[i].name, " with a budget of ", FormatBytes(bytes))
                              : absl::StrCat((*devices)[i].name, ", not used"));
  }
  Finding finding{"devices", Grade::kGood, Listed(names, kDevicesNamedMax), ""};
  if (const int64_t free = CpuDevice().available_bytes; simulated > free) {
    finding.grade = Grade::kAdvice;
    finding.remedy =
        absl::StrCat("simulated devices are memory of the CPU, ", FormatBytes(simulated), " in all, and it has ",
                     FormatBytes(free), " free: make them smaller, lest the kernel end the daemon when they fill up");
  }
  return finding;
}

std::vector<Finding> ExamineModel(const EngineOptions& options) {
  std::vector<Finding> findings;
  const absl::StatusOr<PlacedModel> read = ReadModel(options, Purpose::kRunning);
  const Purpose purpose = read.ok() ? Purpose::kRunning : Purpose::kPlanning;
  if (read.ok()) {
    findings.push_back({"model", Grade::kGood, absl::StrCat(read->spec.title(), " in ", read->folder), ""});
    for (const std::string& warning : read->spec.warnings) findings.push_back({"model", Grade::kAdvice, warning, ""});
    findings.push_back(DiskSpeed(*read->checkpoint));
    for (Finding& finding : Texts(*read, options.chat_template_file)) findings.push_back(std::move(finding));
  } else {
    findings.push_back({"model", Grade::kProblem, std::string(read.status().message()),
                        "--model takes a folder with config.json and safetensors files, or the org/name of one in the "
                        "local Hugging Face cache"});
    if (!ReadModel(options, purpose).ok()) return findings;  // config.json alone tells whether it will fit
  }
  if (ExamineFleet(options).grade == Grade::kProblem) return findings;  // ExamineFleet says so
  const absl::StatusOr<PlacedModel> placed = PlaceModel(options, purpose);
  if (!placed.ok()) {
    // The message says what is short, and a sentence of it what would help.
    const std::string message(placed.status().message());
    const size_t end = std::min(message.find(". Any of these"), message.find(". No single"));
    findings.push_back({"fit", Grade::kProblem, message.substr(0, end),
                        end == std::string::npos ? "causewayd plan takes the same flags and tries others at once"
                                                 : message.substr(end + 2)});
    return findings;
  }
  std::vector<std::string> holds;
  int64_t weights = 0;
  for (const DevicePlan& device : placed->plan.devices) {
    weights += device.weights;
    const std::string units = UnitNames(UnitsOf(placed->spec), device.units);
    if (!device.units.empty()) holds.push_back(absl::StrCat(device.device.name, " (", units, ")"));
  }
  std::string room;
  if (placed->plan.kv_blocks > 0) {
    const SequencesOf longest = CapacityOf(placed->plan).sequences.front();
    room =
        absl::StrCat(", and room for ", placed->plan.kv_blocks * kBlockTokens, " tokens of KV cache: ", longest.count,
                     longest.count == 1 ? " sequence of " : " sequences of ", longest.tokens);
  }
  findings.push_back({"fit", Grade::kGood,
                      absl::StrCat(FormatBytes(weights), " of weights on ", Listed(holds, kDevicesNamedMax), room),
                      ""});
  if (placed->plan.offloaded_to_cpu + placed->plan.offloaded_to_disk > 0)
    findings.push_back(Offload(placed->plan, options.executor.offload_folder));
  return findings;
}

}  // namespace causeway
