#include "engine/text/stop_matcher.h"

#include <random>

#include "engine/text/golden.h"
#include "gtest/gtest.h"

namespace causeway {
namespace {

// Everything that is given out for `text`, cut at random, and the match.
StopMatcher::Out RunMatcher(const std::vector<std::string>& stops, bool include_stop, const std::string& text,
                            std::mt19937& rng, size_t piece_max) {
  StopMatcher matcher(stops, include_stop);
  StopMatcher::Out total;
  for (size_t at = 0; at < text.size();) {
    const size_t length = std::min(text.size() - at, 1 + rng() % piece_max);
    const StopMatcher::Out out = matcher.Append(absl::string_view(text).substr(at, length));
    total.text += out.text;
    if (total.stopped) {
      EXPECT_TRUE(out.stopped && out.text.empty() && out.match.empty());
    } else if (out.stopped) {
      total.stopped = true;
      total.match = out.match;
    }
    at += length;
  }
  total.text += matcher.Flush();
  EXPECT_EQ(matcher.Flush(), "");
  return total;
}

// The rule, word for word: the match that ends first, and of these the longest.
StopMatcher::Out Expected(const std::vector<std::string>& stops, bool include_stop, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& stop : stops) {
      if (stop.size() > end || stop.size() <= best.size()) continue;
      if (text.compare(end - stop.size(), stop.size(), stop) == 0) best = stop;
    }
    if (!best.empty()) return {text.substr(0, include_stop ? end : end - best.size()), true, best};
  }
  return {text, false, ""};
}

TEST(StopMatcherTest, HoldsBackOnlyWhatMayBeginAStop) {
  StopMatcher matcher({"</s>", "\n\nUser"}, false);
  EXPECT_EQ(matcher.Append("a <").text, "a ");
  EXPECT_EQ(matcher.Append("b").text, "<b");
  EXPECT_EQ(matcher.Append("\n\nUs").text, "");
  EXPECT_EQ(matcher.Append("\n").text, "\n\nUs");
  const StopMatcher::Out out = matcher.Append("\nUser: next");
  EXPECT_EQ(out.text, "");
  EXPECT_TRUE(out.stopped);
  EXPECT_EQ(out.match, "\n\nUser");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, FlushGivesWhatWasHeldBack) {
  StopMatcher matcher({"stop"}, true);
  EXPECT_EQ(matcher.Append("sto").text, "");
  EXPECT_EQ(matcher.Flush(), "sto");
}

TEST(StopMatcherTest, EarliestEndWinsThenTheLongest) {
  std::mt19937 rng(1);
  EXPECT_EQ(RunMatcher({"bcd", "c"}, false, "abcd", rng, 4).text, "ab");
  EXPECT_EQ(RunMatcher({"c", "bc", "abc"}, false, "xabcd", rng, 5).match, "abc");
  EXPECT_EQ(RunMatcher({"c", "bc"}, true, "xabcd", rng, 5).text, "xabc");
  EXPECT_EQ(RunMatcher({"aab"}, false, "aaaab", rng, 1).text, "aa");
}

TEST(StopMatcherTest, NoStopsAndEmptyStopsPassEverything) {
  StopMatcher none({}, false);
  EXPECT_EQ(none.Append("abc").text, "abc");
  StopMatcher empty({"", ""}, false);
  const StopMatcher::Out out = empty.Append("abc");
  EXPECT_EQ(out.text, "abc");
  EXPECT_FALSE(out.stopped);
}

TEST(StopMatcherTest, RandomTextsCutAnywhereFollowTheRule) {
  std::mt19937 rng(7);
  const auto random_text = [&](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += static_cast<char>('a' + rng() % 3);
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops(rng() % 4);
    for (std::string& stop : stops) stop = random_text(1 + rng() % 5);
    const std::string text = random_text(rng() % 30);
    const bool include = rng() % 2 == 0;
    const StopMatcher::Out wanted = Expected(stops, include, text);
    const StopMatcher::Out out = RunMatcher(stops, include, text, rng, 1 + rng() % 8);
    ASSERT_EQ(out.text, wanted.text) << Json(stops).dump() << " in " << text;
    ASSERT_EQ(out.stopped, wanted.stopped);
    ASSERT_EQ(out.match, wanted.match);
    stopped += out.stopped;
  }
  EXPECT_GT(stopped, 2000);
}

// Pieces of whole characters come out whole, though stop strings share lead bytes with the text.
TEST(StopMatcherTest, NeverCutsACharacter) {
  const std::vector<std::string> characters = {"é", "è", "ê", "你", "佡", "😀", "😁", "a"};
  std::mt19937 rng(3);
  for (int round = 0; round < 5000; ++round) {
    StopMatcher matcher({"éè", "你😀", "😀"}, rng() % 2 == 0);
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(IsUtf8(matcher.Append(characters[rng() % characters.size()]).text));
    EXPECT_TRUE(IsUtf8(matcher.Flush()));
  }
}

}  // namespace
}  // namespace causeway
