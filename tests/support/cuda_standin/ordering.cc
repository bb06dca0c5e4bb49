#include "tests/support/cuda_standin/ordering.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <sstream>
#include <utility>

namespace causeway::standin {
namespace {

// How much of each stream's work is known to be done before something.
class Clock {
 public:
  int64_t of(size_t stream) const { return stream < done_.size() ? done_[stream] : 0; }
  void Set(size_t stream, int64_t work) {
    if (done_.size() <= stream) done_.resize(stream + 1);
    done_[stream] = work;
  }
  void Join(const Clock& other) {
    for (size_t s = 0; s < other.done_.size(); ++s) Set(s, std::max(of(s), other.done_[s]));
  }

 private:
  std::vector<int64_t> done_;
};

// A piece of work, the n-th of its stream.
struct Work {
  size_t stream = 0;
  int64_t n = 0;  // 0: none
  size_t call = 0;
};

// Memory that was touched alike.
struct Stretch {
  uintptr_t end;
  Work write;
  std::vector<Work> reads;  // since the write
};

class Ordering {
 public:
  explicit Ordering(const std::vector<Call>& calls) : calls_(calls) {}

  std::string Run() {
    for (size_t i = 0; i < calls_.size(); ++i) {
      if (std::string found = Take(i); !found.empty()) return found;
    }
    return "";
  }

 private:
  std::string Take(size_t i) {
    const Call& call = calls_[i];
    const size_t stream = StreamOf(call.device, call.stream);
    Clock& clock = streams_[stream];
    if (call.name == "cudaStreamWaitEvent") {
      clock.Join(events_[call.event]);
    } else if (call.name == "cudaEventRecord") {
      clock.Join(host_);
      events_[call.event] = clock;
    } else if (call.name == "cudaEventSynchronize" || call.name == "cudaEventQuery") {
      host_.Join(events_[call.event]);
    } else if (call.name == "cudaStreamSynchronize") {
      host_.Join(clock);
    } else if (call.name == "cudaDeviceSynchronize" || call.name == "cudaFree") {
      for (const auto& [key, index] : indices_) {
        if (key.first == call.device) host_.Join(streams_[index]);
      }
    } else if (!call.touches.empty()) {
      clock.Join(host_);
      const Work work = {stream, clock.of(stream) + 1, i};
      clock.Set(stream, work.n);
      for (const Touch& touch : call.touches) {
        if (std::string found = TouchBy(work, touch); !found.empty()) return found;
      }
      if (call.name == "cudaMemcpy") host_.Join(clock);
    }
    return "";
  }

  std::string TouchBy(const Work& work, const Touch& touch) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(touch.begin), end = begin + touch.bytes;
    CutAt(begin);
    CutAt(end);
    const Clock& clock = streams_[work.stream];
    uintptr_t at = begin;
    while (at < end) {
      auto next = memory_.lower_bound(at);
      if (next == memory_.end() || next->first > at) {  // nobody has touched what lies before it
        const uintptr_t until = next == memory_.end() ? end : std::min(end, next->first);
        next = memory_.emplace(at, Stretch{until, {}, {}}).first;
      }
      Stretch& stretch = next->second;
      const auto unordered = [&](const Work& before) { return before.n > clock.of(before.stream); };
      if (unordered(stretch.write)) return Describe(work, touch.writes, stretch.write, true);
      if (touch.writes) {
        for (const Work& read : stretch.reads) {
          if (unordered(read)) return Describe(work, true, read, false);
        }
        stretch.write = work;
        stretch.reads.clear();
      } else {
        std::erase_if(stretch.reads, [&](const Work& read) { return read.stream == work.stream; });
        stretch.reads.push_back(work);
      }
      at = stretch.end;
    }
    return "";
  }

  // No stretch reaches beyond `address` from before it.
  void CutAt(uintptr_t address) {
    auto after = memory_.upper_bound(address);
    if (after == memory_.begin()) return;
    auto& [begin, stretch] = *std::prev(after);
    if (begin == address || stretch.end <= address) return;
    Stretch rest = stretch;
    stretch.end = address;
    memory_.emplace(address, std::move(rest));
  }

  std::string Describe(const Work& work, bool writes, const Work& before, bool wrote) const {
    std::ostringstream text;
    const auto name = [&](const Work& which) {
      const Call& call = calls_[which.call];
      text << call.name << " (call " << which.call << ", device " << call.device << ", stream " << call.stream << ")";
    };
    name(work);
    text << (writes ? " writes" : " reads") << " what ";
    name(before);
    text << (wrote ? " writes" : " reads") << ", and nothing makes it wait";
    return text.str();
  }

  size_t StreamOf(int device, const void* stream) {
    const auto [found, added] = indices_.emplace(std::pair(device, stream), streams_.size());
    if (added) streams_.emplace_back();
    return found->second;
  }

  const std::vector<Call>& calls_;
  std::map<std::pair<int, const void*>, size_t> indices_;
  std::vector<Clock> streams_;  // what is done before the next work of each
  Clock host_;                  // what the host knows to be done
  std::map<const void*, Clock> events_;
  std::map<uintptr_t, Stretch> memory_;  // by where they begin
};

}  // namespace

std::string FirstUnordered(const std::vector<Call>& calls) { return Ordering(calls).Run(); }

}  // namespace causeway::standin
