#include "server/daemon/load_meter.h"

#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_format.h"
#include "engine/plan/device.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kLogAgainSeconds = 5;  // a faster load needs no line in between
constexpr int kBarWidth = 40;

}  // namespace

LoadDisplay LoadDisplayFor(absl::string_view log_format) {
  if (log_format != "text") return LoadDisplay::kNone;
  return isatty(STDERR_FILENO) == 1 ? LoadDisplay::kBar : LoadDisplay::kLines;
}

LoadMeter::LoadMeter(LoadDisplay display) : display_(display) {}

double LoadMeter::BytesPerSecond(const LoadProgress& progress) {
  return progress.seconds > 0 ? static_cast<double>(progress.bytes_done) / progress.seconds : 0;
}

std::string LoadMeter::Line(const LoadProgress& progress) {
  const double share = progress.bytes_total > 0
                           ? static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total)
                           : 1;
  return absl::StrFormat("%3.0f%%  %s of %s  %.2f GB/s", share * 100, FormatBytes(progress.bytes_done),
                         FormatBytes(progress.bytes_total), BytesPerSecond(progress) / 1e9);
}

void LoadMeter::Update(const LoadProgress& progress) {
  if (progress.seconds < shown_) shown_ = 0;  // loading has begun again
  last_ = progress;
  if (display_ == LoadDisplay::kNone) return;
  const bool bar = display_ == LoadDisplay::kBar, end = progress.bytes_done == progress.bytes_total;
  if (progress.seconds - shown_ < (bar ? kRedrawSeconds : kLogAgainSeconds) && !(bar && end)) return;
  shown_ = progress.seconds;
  if (!bar) {
    Log(LogLevel::kInfo, "loading",
        {{"bytes_done", progress.bytes_done},
         {"bytes_total", progress.bytes_total},
         {"gb_per_second", absl::StrFormat("%.2f", BytesPerSecond(progress) / 1e9)}});
    return;
  }
  const int filled =
      progress.bytes_total > 0 ? static_cast<int>(kBarWidth * progress.bytes_done / progress.bytes_total) : kBarWidth;
  const std::string drawing =
      std::string(static_cast<size_t>(filled), '#') + std::string(static_cast<size_t>(kBarWidth - filled), '.');
  std::fprintf(stderr, "\r\033[KLoading [%s] %s", drawing.c_str(), Line(progress).c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void LoadMeter::Finish() {
  if (drawn_) std::fputc('\n', stderr);
  drawn_ = false;
}

}  // namespace causeway
