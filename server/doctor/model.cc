#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/base/limits.h"
#include "engine/checkpoint/file.h"
#include "server/doctor/doctor.h"

namespace causeway {
namespace {

constexpr int64_t kSampleBytes = int64_t{256} << 20, kPieceBytes = int64_t{4} << 20;
constexpr double kSlowDisk = 0.5e9;  // bytes a second: 10 GB take 20 s

// The beginning of the largest file, as the disk gives it, as far as the kernel drops it from memory when asked to.
Finding DiskSpeed(const Checkpoint& checkpoint) {
  Finding finding{"disk", Grade::kGood, "", ""};
  std::string largest;
  int64_t bytes = 0;
  for (const std::string& path : checkpoint.files()) {
    const absl::StatusOr<File> file = File::Open(path);
    if (file.ok() && static_cast<int64_t>(file->bytes()) > bytes) bytes = static_cast<int64_t>(file->bytes()), largest = path;
  }
  const absl::StatusOr<File> file = File::Open(largest);
  if (!file.ok()) return {"disk", Grade::kProblem, std::string(file.status().message()), "make the file readable for the daemon's user"};
  bytes = std::min(bytes, kSampleBytes);
  ::posix_fadvise(file->descriptor(), 0, bytes, POSIX_FADV_DONTNEED);
  std::vector<char> piece(kPieceBytes);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t offset = 0; offset < bytes; offset += kPieceBytes) {
    const absl::Status status = ReadExactly(file->descriptor(), offset, absl::MakeSpan(piece.data(), std::min(kPieceBytes, bytes - offset)), largest);
    if (!status.ok()) return {"disk", Grade::kProblem, std::string(status.message()), "copy the model again"};
  }
  const double speed = static_cast<double>(bytes) / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  finding.found = absl::StrFormat("%.2f GB/s over the first %s of %s", speed / 1e9, FormatBytes(bytes), largest);
  if (speed < kSlowDisk) {
    finding.grade = Grade::kAdvice;
    finding.remedy = "starting takes as long as the disk does: copy the model to a faster one";
  }
  return finding;
}

Finding Offload(const Plan& plan, const std::string& folder) {
  Finding finding{"offload", Grade::kGood, absl::StrCat(FormatBytes(plan.offloaded_to_cpu), " of weights come from CPU memory"), ""};
  if (plan.offloaded_to_disk == 0) return finding;
  struct statvfs room{};
  const int64_t free = ::statvfs(folder.c_str(), &room) == 0 ? static_cast<int64_t>(room.f_bavail * room.f_frsize) : 0;
  absl::StrAppend(&finding.found, ", ", FormatBytes(plan.offloaded_to_disk), " from ", folder, ", which has ", FormatBytes(free), " free");
  if (free < plan.offloaded_to_disk) {
    finding.grade = Grade::kAdvice;
    finding.remedy = "make room, unless the file of an earlier run is there";
  }
  return finding;
}

}  // namespace

std::vector<Finding> ExamineModel(const EngineOptions& options) {
  const absl::StatusOr<PlacedModel> read = ReadModel(options, Purpose::kRunning);
  if (!read.ok()) return {{"model", Grade::kProblem, std::string(read.status().message()), "see the message"}};
  std::vector<Finding> findings = {{"model", Grade::kGood, absl::StrCat(read->spec.title(), " in ", read->folder), ""}};
  for (const std::string& warning : read->spec.warnings) findings.push_back({"model", Grade::kAdvice, warning, ""});
  findings.push_back(DiskSpeed(*read->checkpoint));
  const absl::StatusOr<PlacedModel> placed = PlaceModel(options);
  if (!placed.ok()) {
    findings.push_back({"fit", Grade::kProblem, std::string(placed.status().message()), "see the message; causewayd plan shows the whole of it"});
    return findings;
  }
  std::vector<std::string> holds;
  int64_t weights = 0;
  for (const DevicePlan& device : placed->plan.devices) {
    weights += device.weights;
    if (!device.units.empty()) holds.push_back(device.device.name);
  }
  findings.push_back({"fit", Grade::kGood,
                      absl::StrCat(FormatBytes(weights), " of weights on ", absl::StrJoin(holds, ", "), ", and room for ",
                                   placed->plan.kv_blocks * kBlockTokens, " tokens of KV cache"), ""});
  if (placed->plan.offloaded_to_cpu + placed->plan.offloaded_to_disk > 0) findings.push_back(Offload(placed->plan, options.executor.offload_folder));
  return findings;
}

}  // namespace causeway
