#include "engine/text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace causeway {
namespace {

// Given that the first `matched` bytes match, returns the longest prefix that still matches after one more byte.
size_t Advance(const std::string& pattern, const std::vector<size_t>& borders, size_t matched, char byte) {
  while (matched > 0 && (matched == pattern.size() || pattern[matched] != byte)) matched = borders[matched - 1];
  return pattern[matched] == byte ? matched + 1 : 0;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop) : include_stop_(include_stop) {
  for (std::string& stop : stops) {
    if (stop.empty()) continue;
    Pattern pattern;
    pattern.borders.assign(1, 0);
    for (size_t i = 1; i < stop.size(); ++i) {
      pattern.borders.push_back(Advance(stop, pattern.borders, pattern.borders[i - 1], stop[i]));
    }
    pattern.text = std::move(stop);
    patterns_.push_back(std::move(pattern));
  }
  // The longest comes first, so that it is found first of several that end at one byte.
  std::stable_sort(patterns_.begin(), patterns_.end(),
                   [](const Pattern& a, const Pattern& b) { return a.text.size() > b.text.size(); });
}

StopMatcher::Out StopMatcher::Append(absl::string_view text) {
  Out out;
  out.stopped = stopped_;
  if (stopped_) return out;
  for (const char byte : text) {
    held_.push_back(byte);
    for (Pattern& pattern : patterns_) {
      pattern.matched = Advance(pattern.text, pattern.borders, pattern.matched, byte);
      if (pattern.matched < pattern.text.size()) continue;
      stopped_ = out.stopped = true;
      out.match = pattern.text;
      if (!include_stop_) held_.resize(held_.size() - pattern.text.size());
      out.text = std::exchange(held_, "");
      return out;
    }
  }
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max(keep, pattern.matched);
  out.text = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return out;
}

std::string StopMatcher::Flush() { return std::exchange(held_, ""); }

}  // namespace causeway
