#include "engine/threads/processors.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "engine/base/control_group.h"
#include "engine/base/kernel_file.h"

namespace causeway {
namespace {

constexpr int kProcessorsMax = 1 << 16;  // more than any kernel is built for

// Processors that the calling thread may run on. The kernel refuses a mask that is shorter than its own.
int CountAffinity() {
  for (int processors = CPU_SETSIZE; processors <= kProcessorsMax; processors *= 2) {
    std::vector<cpu_set_t> mask(processors / CPU_SETSIZE);
    const size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) == 0) return std::max(1, CPU_COUNT_S(bytes, mask.data()));
  }
  return 1;
}

// Counts the processors in a list as the kernel writes it, "0-3,8"; returns 0 where it does not understand the list.
int CountListed(const std::string& text) {
  int count = 0;
  for (absl::string_view range : absl::StrSplit(absl::StripAsciiWhitespace(text), ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(range, '-');
    int first = 0, last = 0;
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) || !absl::SimpleAtoi(ends.back(), &last)) return 0;
    if (first < 0 || last < first || last >= kProcessorsMax) return 0;
    count += last - first + 1;
  }
  return count;
}

// The time that the group may use, in processors; 0 means no limit.
double Quota(const ControlGroup& group) {
  // Version 2 writes "200000 100000" or "max 100000": microseconds in each period. Version 1 has a file for each
  // number, and -1 where there is no limit.
  const auto read = [&group](absl::string_view name) { return ReadKernelFile(absl::StrCat(group.folder, "/", name)); };
  const std::string text =
      group.version == 2 ? read("cpu.max") : absl::StrCat(read("cpu.cfs_quota_us"), " ", read("cpu.cfs_period_us"));
  const std::vector<absl::string_view> words = absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  int64_t used = 0, period = 0;
  if (words.size() != 2 || !absl::SimpleAtoi(words[0], &used) || !absl::SimpleAtoi(words[1], &period)) return 0;
  return used > 0 && period > 0 ? static_cast<double>(used) / static_cast<double>(period) : 0;
}

// How many threads a quota keeps busy. It is rounded up, as Go, Java and .NET do, so that no part of it is left unused.
// A quota hardly above a whole number gets no further thread: that thread would be stopped nearly all the time.
int ThreadsOfQuota(double quota) {
  constexpr double kTooLittle = 0.05;
  return static_cast<int>(std::clamp(std::ceil(quota - kTooLittle), 1.0, static_cast<double>(kProcessorsMax)));
}

}  // namespace

std::string Processors::bound_text() const {
  switch (bound) {
    case ProcessorBound::kMachine: return "";
    case ProcessorBound::kAffinity: return "affinity or cpuset";
    case ProcessorBound::kQuota: return absl::StrFormat("control group quota %.4g", quota);
  }
  return "";
}

std::string Processors::text() const {
  if (bound == ProcessorBound::kMachine) return absl::StrCat(count);
  return absl::StrCat(count, " of ", machine, " (", bound_text(), ")");
}

Processors ReadProcessors(const std::string& root) {
  Processors read;
  read.affinity = CountAffinity();
  read.machine = std::max(read.affinity, CountListed(ReadKernelFile(root + "/sys/devices/system/cpu/online")));
  for (const ControlGroup& group : ControlGroups(root, "cpu")) {
    const double quota = Quota(group);
    if (quota > 0 && (read.quota == 0 || quota < read.quota)) read.quota = quota;
  }
  read.count = read.affinity;
  if (read.affinity < read.machine) read.bound = ProcessorBound::kAffinity;
  if (read.quota > 0 && ThreadsOfQuota(read.quota) < read.count) {
    read.count = ThreadsOfQuota(read.quota);
    read.bound = ProcessorBound::kQuota;
  }
  return read;
}

const Processors& ThisMachine() {
  static const Processors processors = ReadProcessors("");
  return processors;
}

std::string ThreadsWarning(int cpu_threads, const Processors& processors) {
  if (cpu_threads <= processors.count) return "";
  return absl::StrCat("cpu_threads is ", cpu_threads, ", more than the processors at hand, ", processors.text(),
                      ": threads will be stopped while others wait for them; 0 asks for as many as are at hand");
}

}  // namespace causeway
