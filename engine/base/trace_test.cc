#include "engine/base/trace.h"

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

class TraceTest : public ::testing::Test {
 protected:
  ~TraceTest() override {
    Trace::Stop().IgnoreError();
    ::unlink(path_.c_str());
  }
  // The spans by their lane's name, in the order in which they ended.
  std::map<std::string, std::vector<Json>> Spans() const {
    std::map<int, std::string> names;
    std::map<std::string, std::vector<Json>> spans;
    const Json events = Json::parse(std::ifstream(path_));
    for (const Json& event : events) {
      if (event["name"] == "thread_name") names[event["tid"]] = event["args"]["name"];
      if (event["ph"] == "X") spans[names.at(event["tid"])].push_back(event);
    }
    return spans;
  }
  const std::string path_ = absl::StrCat(::testing::TempDir(), "/trace-", getpid(), ".json");
};

TEST_F(TraceTest, EveryThreadHasALaneWithItsSpans) {
  {
    const TraceSpan before("before");
  }
  ASSERT_TRUE(Trace::Start(path_).ok());
  const auto work = [](const std::string& lane) {
    Trace::NameLane(lane);
    for (int i = 0; i < 100; ++i) {
      TraceSpan outer("outer");
      outer.With("i", i).With("rows", 7);
      const TraceSpan inner("inner");
    }
  };
  std::thread other(work, "other");
  work("one");
  other.join();
  EXPECT_TRUE(Trace::Stop().ok());
  {
    const TraceSpan after("after");
  }

  const auto spans = Spans();
  ASSERT_EQ(spans.size(), 2u);
  for (const char* lane : {"one", "other"}) {
    const std::vector<Json>& of_lane = spans.at(lane);
    ASSERT_EQ(of_lane.size(), 200u);
    for (int i = 0; i < 100; ++i) {
      const Json &inner = of_lane[2 * i], &outer = of_lane[2 * i + 1];
      EXPECT_EQ(inner["name"], "inner");
      EXPECT_EQ(outer["args"], Json({{"i", i}, {"rows", 7}}));
      EXPECT_LE(outer["ts"], inner["ts"]);
      const double end = outer["ts"].get<double>() + outer["dur"].get<double>();
      EXPECT_LE(inner["ts"].get<double>() + inner["dur"].get<double>(), end + 0.01);
    }
  }
}

TEST_F(TraceTest, LanesAreNamedInEveryTrace) {
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(Trace::Start(path_).ok());
    Trace::NameLane("renamed");
    {
      const TraceSpan span("span");
    }
    EXPECT_TRUE(Trace::Stop().ok());
    EXPECT_EQ(Spans().at("renamed").size(), 1u) << round;
  }
}

TEST_F(TraceTest, SpansThatATraceDidNotSeeBeginAreLeftOut) {
  {
    ASSERT_TRUE(Trace::Start(path_).ok());
    const TraceSpan span("over both");
    ASSERT_TRUE(Trace::Start(path_).ok());
  }
  EXPECT_TRUE(Trace::Stop().ok());
  EXPECT_TRUE(Spans().empty());
}

TEST_F(TraceTest, AFileThatCannotBeWrittenIsNamed) {
  const absl::Status status = Trace::Start("/nowhere/trace.json");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("/nowhere/trace.json"));
  const TraceSpan span("nowhere");
}

TEST_F(TraceTest, ADiskThatIsFullIsToldAtTheEnd) {
  ASSERT_TRUE(Trace::Start("/dev/full").ok());
  {
    const TraceSpan span("lost");
  }
  const absl::Status status = Trace::Stop();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("cannot write /dev/full"));
  EXPECT_TRUE(Trace::Stop().ok()) << "it was told";
}

TEST_F(TraceTest, MoreSpansThanItTakesAreTold) {
  ASSERT_TRUE(Trace::Start(path_, /*spans_max=*/3).ok());
  Trace::NameLane("full");
  for (int i = 0; i < 5; ++i) TraceSpan("span").With("i", i);
  const absl::Status status = Trace::Stop();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("the first 3 spans"));
  EXPECT_EQ(Spans().at("full").size(), 3u);
}

TEST_F(TraceTest, CostsNextToNothingWhileThereIsNone) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1'000'000; ++i) TraceSpan("span").With("i", i);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1)) << "a microsecond each";
}

}  // namespace
}  // namespace causeway
