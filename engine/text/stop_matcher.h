// Finds stop strings in a text that comes in pieces.
#ifndef CAUSEWAY_ENGINE_TEXT_STOP_MATCHER_H_
#define CAUSEWAY_ENGINE_TEXT_STOP_MATCHER_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace causeway {

// There is one for each generated sequence, and one thread at a time uses it. What it finds does not depend on where
// the pieces are cut: the match that ends first wins, and of those that end together the longest. Text that may begin a
// stop string is held back, at most the longest stop string's bytes. Pieces of whole characters come out as pieces of
// whole characters.
class StopMatcher {
 public:
  struct Out {
    std::string text;      // text to give out now
    bool stopped = false;  // a stop string was found; later text is dropped
    std::string match;     // the stop string that was found
  };

  // Empty strings among `stops` are ignored. With `include_stop` the stop string itself is given out, too.
  StopMatcher(std::vector<std::string> stops, bool include_stop);

  Out Append(absl::string_view text);
  // Returns the text that was held back, when the text ends without a match; "" after a match.
  std::string Flush();

 private:
  // A stop string with its prefix function: borders[i] is the length of the longest proper border of its first i + 1
  // bytes, so that each byte of text costs constant time on average.
  struct Pattern {
    std::string text;
    std::vector<size_t> borders;
    size_t matched = 0;  // the longest prefix that the text so far ends with
  };

  std::vector<Pattern> patterns_;
  bool include_stop_;
  bool stopped_ = false;
  std::string held_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_STOP_MATCHER_H_
