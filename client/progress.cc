#include "client/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace causeway {

std::string Bar(double fraction, int cells) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  fraction = std::isfinite(fraction) ? std::clamp(fraction, 0.0, 1.0) : 0.0;
  const int eighths = static_cast<int>(std::lround(fraction * cells * 8));
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  bar += kEighths[eighths % 8];
  for (int i = (eighths + 7) / 8; i < cells; ++i) bar += "░";
  return bar;
}

std::string Bytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  while (value >= 1024 && unit < 3) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string Duration(double seconds) {
  if (seconds < 60) return absl::StrFormat("%.1f s", seconds);
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  if (whole < 3600) return absl::StrFormat("%d min %02d s", whole / 60, whole % 60);
  return absl::StrFormat("%d h %02d min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(std::string what, int64_t total, int64_t done)
    : what_(std::move(what)),
      total_(total),
      done_before_(done),
      terminal_(isatty(STDERR_FILENO)),
      start_(absl::Now()),
      done_(done) {}

void Progress::Add(int64_t done, const std::string& note) {
  absl::MutexLock lock(&mutex_);
  done_ += done;
  note_ = note;
  const absl::Time now = absl::Now();
  if (now - drawn_ >= (terminal_ ? absl::Milliseconds(100) : absl::Seconds(10))) Draw(now);
}

void Progress::Finish() {
  absl::MutexLock lock(&mutex_);
  if (terminal_ || drawn_done_ != done_) Draw(absl::Now());
  if (terminal_) std::cerr << "\n";
}

void Progress::Draw(absl::Time now) {
  drawn_ = now;
  drawn_done_ = done_;
  const double elapsed = absl::ToDoubleSeconds(now - start_);
  const int64_t here = done_ - done_before_;
  std::string line = absl::StrFormat("%d/%d %s  %s", done_, total_, what_, Duration(elapsed));
  if (here > 0 && done_ < total_)
    absl::StrAppend(&line, ", about ", Duration(elapsed / here * (total_ - done_)), " left");
  if (!note_.empty()) absl::StrAppend(&line, "  ", note_);
  if (terminal_) {
    const double fraction = total_ > 0 ? static_cast<double>(done_) / total_ : 1;
    std::cerr << "\r\033[K" << Bar(fraction, 24) << " " << line << std::flush;
  } else {
    std::cerr << line << "\n";
  }
}

}  // namespace causeway
