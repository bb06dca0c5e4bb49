#include "server/daemon/load_meter.h"

#include <cstdio>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "engine/plan/device.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(100);
constexpr absl::Duration kLogAgain = absl::Seconds(5);
constexpr int kBarWidth = 40;

}  // namespace

LoadMeter::LoadMeter(bool terminal) : terminal_(terminal), start_(absl::Now()) {
  if (!terminal_) shown_ = start_;  // what loads within seconds needs no line in between
}

std::string LoadMeter::Line(const LoadProgress& progress, double seconds) {
  const double done = static_cast<double>(progress.bytes_done);
  const double share = progress.bytes_total > 0 ? done / static_cast<double>(progress.bytes_total) : 1;
  return absl::StrFormat("%3.0f%%  %s of %s  %.2f GB/s", share * 100, FormatBytes(progress.bytes_done), FormatBytes(progress.bytes_total),
                         seconds > 0 ? done / seconds / 1e9 : 0);
}

void LoadMeter::Update(const LoadProgress& progress) {
  const absl::Time now = absl::Now();
  const bool last = progress.bytes_done == progress.bytes_total;
  if (!last && now - shown_ < (terminal_ ? kRedraw : kLogAgain)) return;
  shown_ = now;
  const double seconds = absl::ToDoubleSeconds(now - start_);
  if (!terminal_) {
    Log(LogLevel::kInfo, "loading",
        {{"bytes_done", progress.bytes_done}, {"bytes_total", progress.bytes_total},
         {"gb_per_second", absl::StrFormat("%.2f", seconds > 0 ? static_cast<double>(progress.bytes_done) / seconds / 1e9 : 0)}});
    return;
  }
  const int filled = progress.bytes_total > 0 ? static_cast<int>(kBarWidth * progress.bytes_done / progress.bytes_total) : kBarWidth;
  const std::string bar = std::string(static_cast<size_t>(filled), '#') + std::string(static_cast<size_t>(kBarWidth - filled), '.');
  std::fprintf(stderr, "\r\033[KLoading [%s] %s", bar.c_str(), Line(progress, seconds).c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void LoadMeter::Finish() {
  if (drawn_) std::fputc('\n', stderr);
  drawn_ = false;
}

}  // namespace causeway
