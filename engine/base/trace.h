// A trace: what each thread did when, as a file that viewers such as ui.perfetto.dev open (Chrome's JSON events). There
// is one at most in a process. Everything here may be called on any thread.
#ifndef CAUSEWAY_ENGINE_BASE_TRACE_H_
#define CAUSEWAY_ENGINE_BASE_TRACE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace causeway {

struct Trace {
  static constexpr int64_t kSpansMax = 5'000'000;  // which make about 700 MB

  // Writes spans to a new file at `path`, until Stop is called or there are `spans_max`. The file can be opened before
  // that, and after a crash. InvalidArgument, with the path: it cannot be written.
  static absl::Status Start(const std::string& path, int64_t spans_max = kSpansMax);
  // Does nothing where none was started. Errors name the path. DataLoss: the file is not whole, since it could not be
  // written to. ResourceExhausted: it has the first `spans_max` spans and not those after.
  static absl::Status Stop();

  // What the calling thread's lane is called: "scheduler", "cuda:0". Without quotes.
  static void NameLane(const std::string& name);
};

// Something on the calling thread's lane, from here to this object's end. Spans of a thread lie within each other.
// While no trace is written, a span costs the look at a flag.
class TraceSpan {
 public:
  explicit TraceSpan(const char* name);  // a literal, without quotes
  ~TraceSpan();
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

  // A number that is shown with the span; at most kNumbersMax. `key` is a literal.
  TraceSpan& With(const char* key, int64_t value);

 private:
  static constexpr int kNumbersMax = 4;
  struct Number {
    const char* key;
    int64_t value;
  };
  const char* const name_;
  const int64_t begun_;  // in nanoseconds of the monotonic clock; -1: no trace is written
  int numbers_ = 0;
  Number number_[kNumbersMax];
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_TRACE_H_
