// What communicators have in common.
#ifndef CAUSEWAY_ENGINE_DEVICE_COLLECTIVES_H_
#define CAUSEWAY_ENGINE_DEVICE_COLLECTIVES_H_

#include <atomic>
#include <chrono>
#include <cstdint>

#include <c10/core/ScalarType.h>

#include "absl/types/span.h"
#include "engine/base/trace.h"
#include "engine/device/communicator.h"

namespace causeway {

// Elements [first, end) of the arrays `from` are added up in their order, in fp32, and the sum goes into each of `to`,
// which may be the same arrays. Throws c10::Error for types other than fp32, bf16 and fp16.
void SumInRankOrder(at::ScalarType type, absl::Span<char* const> from, absl::Span<char* const> to, int64_t first,
                    int64_t end);

// Counts a rank's calls and their time. One thread makes the calls; any may ask.
class CollectiveCounter {
 public:
  CollectiveStats stats() const {
    return {calls_, bytes_, std::chrono::duration<double>(std::chrono::nanoseconds(nanoseconds_)).count()};
  }

  // Lives as long as the call, also where that throws.
  class Call {
   public:
    Call(CollectiveCounter& counter, const char* name, int64_t bytes)
        : counter_(counter), span_(name), begun_(std::chrono::steady_clock::now()) {
      span_.With("bytes", bytes);
      ++counter_.calls_;
      counter_.bytes_ += bytes;
    }
    ~Call() { counter_.nanoseconds_ += std::chrono::nanoseconds(std::chrono::steady_clock::now() - begun_).count(); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    CollectiveCounter& counter_;
    TraceSpan span_;
    const std::chrono::steady_clock::time_point begun_;
  };

 private:
  std::atomic<int64_t> calls_ = 0, bytes_ = 0, nanoseconds_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_COLLECTIVES_H_
