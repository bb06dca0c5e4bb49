#include "engine/base/trace.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"

namespace causeway {
namespace {

constexpr int64_t kFlushNanoseconds = 1'000'000'000;

int64_t Now() { return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// A thread's row in the viewer.
struct Lane {
  const int id = ++made;
  std::string name = absl::StrCat("thread ", id);
  int64_t named_in = 0;  // the trace that has its name
  static inline std::atomic<int> made = 0;
};
thread_local Lane lane;

class Writer {
 public:
  bool on() const { return on_.load(std::memory_order_relaxed); }

  absl::Status Open(const std::string& path, int64_t spans_max) {
    absl::MutexLock lock(&mutex_);
    Close();
    file_ = std::fopen(path.c_str(), "we");
    if (file_ == nullptr)
      return absl::InvalidArgumentError(absl::StrCat("cannot write ", path, ": ", std::strerror(errno)));
    ++trace_;
    path_ = path;
    spans_max_ = spans_max;
    spans_ = 0;
    ended_ = absl::OkStatus();
    start_ = flushed_ = Now();
    // A list may lack its end, so that the file can be opened at any time.
    Put("[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"causewayd\"}}");
    on_ = true;
    return absl::OkStatus();
  }

  absl::Status Stop() {
    absl::MutexLock lock(&mutex_);
    Close();
    return std::exchange(ended_, absl::OkStatus());
  }

  void Span(const char* name, int64_t begun, const std::string& numbers) {
    const int64_t now = Now();
    absl::MutexLock lock(&mutex_);
    if (file_ == nullptr || begun < start_) return;
    if (lane.named_in != trace_) {
      lane.named_in = trace_;
      Put(absl::StrFormat(",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":\"%s\"}}",
                          lane.id, lane.name));
    }
    Put(absl::StrFormat(",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"args\":{%s}}",
                        name, lane.id, Microseconds(begun - start_), Microseconds(now - begun), numbers));
    if (now - flushed_ > kFlushNanoseconds) {
      std::fflush(file_);
      flushed_ = now;
    }
    if (++spans_ < spans_max_) return;
    ended_ = absl::ResourceExhaustedError(
        absl::StrCat(path_, " has the first ", spans_max_, " spans of the trace; those after were left out"));
    Close();
  }

 private:
  static double Microseconds(int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e3; }

  void Put(const std::string& text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::fwrite(text.data(), 1, text.size(), file_);
  }
  void Close() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    on_ = false;
    if (file_ == nullptr) return;
    Put("\n]\n");
    const bool failed = std::ferror(file_) != 0;
    if (std::fclose(file_) != 0 || failed)
      ended_ = absl::DataLossError(absl::StrCat("cannot write ", path_, "; the trace is not whole. Is the disk full?"));
    file_ = nullptr;
  }

  std::atomic<bool> on_ = false;
  absl::Mutex mutex_;
  std::FILE* file_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int64_t trace_ ABSL_GUARDED_BY(mutex_) = 0;  // how many were started
  std::string path_ ABSL_GUARDED_BY(mutex_);
  int64_t spans_ ABSL_GUARDED_BY(mutex_) = 0, spans_max_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);  // how the trace did, which Stop tells
  int64_t start_ ABSL_GUARDED_BY(mutex_) = 0, flushed_ ABSL_GUARDED_BY(mutex_) = 0;
};

// It is never destroyed, since threads may outlive main.
Writer& TheWriter() {
  static Writer* const writer = new Writer;
  return *writer;
}

}  // namespace

absl::Status Trace::Start(const std::string& path, int64_t spans_max) { return TheWriter().Open(path, spans_max); }
absl::Status Trace::Stop() { return TheWriter().Stop(); }
void Trace::NameLane(const std::string& name) { lane.name = name, lane.named_in = 0; }

TraceSpan::TraceSpan(const char* name) : name_(name), begun_(TheWriter().on() ? Now() : -1) {}

TraceSpan::~TraceSpan() {
  if (begun_ < 0) return;
  std::string numbers;
  for (int i = 0; i < numbers_; ++i)
    absl::StrAppend(&numbers, i == 0 ? "" : ",", "\"", number_[i].key, "\":", number_[i].value);
  TheWriter().Span(name_, begun_, numbers);
}

TraceSpan& TraceSpan::With(const char* key, int64_t value) {
  if (begun_ >= 0 && numbers_ < kNumbersMax) number_[numbers_++] = {key, value};
  return *this;
}

}  // namespace causeway
