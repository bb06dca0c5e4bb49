#include "engine/base/clock.h"

#include <chrono>

namespace causeway {
namespace {

class MonotonicClock : public Clock {
 public:
  absl::Time Now() const override { return anchor_ + absl::FromChrono(std::chrono::steady_clock::now() - start_); }

 private:
  const absl::Time anchor_ = absl::Now();
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

const Clock* Clock::Real() {
  static const MonotonicClock* const clock = new MonotonicClock;  // never destroyed: threads may outlive main's statics
  return clock;
}

}  // namespace causeway
