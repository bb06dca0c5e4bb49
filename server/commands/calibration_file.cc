#include "server/commands/calibration_file.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

constexpr size_t kBytesMax = 1 << 20;

std::string FileOrDefault(const std::string& file) { return file.empty() ? DefaultCalibrationFile() : file; }

}  // namespace

std::string DefaultCalibrationFile() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return absl::StrCat(cache, "/causeway/calibration.json");
  const char* home = std::getenv("HOME");
  return home == nullptr ? "" : absl::StrCat(home, "/.cache/causeway/calibration.json");
}

absl::StatusOr<Calibration> ReadCalibrationFile(const std::string& file) {
  const std::string path = FileOrDefault(file);
  std::ifstream in(path, std::ios::binary);
  if (!in && file.empty()) return Calibration();
  if (!in)
    return absl::NotFoundError(
        absl::StrCat("--calibration: ", file, " cannot be read; causewayd plan --calibrate makes it"));
  std::string text(kBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kBytesMax)
    return absl::InvalidArgumentError(absl::StrCat(path, ": larger than ", kBytesMax, " bytes"));
  return ParseCalibration(text, path);
}

absl::Status WriteCalibrationFile(const std::string& file, const Calibration& calibration) {
  const std::string path = FileOrDefault(file);
  if (path.empty())
    return absl::FailedPreconditionError(
        "neither XDG_CACHE_HOME nor HOME says where the calibration could be kept; give --calibration FILE");
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  Calibration all = calibration;
  if (std::filesystem::exists(path, error)) {
    absl::StatusOr<Calibration> before = ReadCalibrationFile(path);
    if (absl::IsFailedPrecondition(before.status()))
      before = Calibration();  // of another version, and so of no use any more
    CAUSEWAY_ASSIGN_OR_RETURN(all, std::move(before));
    for (const auto& [model, speed] : calibration.devices) {
      // Formats that were measured before stay.
      const DeviceSpeed before = std::exchange(all.devices[model], speed);
      all.devices[model].linears.insert(before.linears.begin(), before.linears.end());
      all.devices[model].cached_linears.insert(before.cached_linears.begin(), before.cached_linears.end());
    }
    if (calibration.disk_bytes_per_second > 0) all.disk_bytes_per_second = calibration.disk_bytes_per_second;
  }
  const std::string written = path + ".new";  // a search that runs meanwhile finds the old file or the new one
  std::ofstream out(written, std::ios::binary);
  out << CalibrationJson(all);
  out.close();
  if (out) std::filesystem::rename(written, path, error);
  return out && !error ? absl::OkStatus() : absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
}

}  // namespace causeway
