#include "engine/strategy/report.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_split.h"
#include "engine/plan/test_models.h"
#include "nlohmann/json.hpp"

namespace causeway {
namespace {

using ::testing::HasSubstr;

struct Reported {
  Fleet fleet = *MakeFleet(*ParseDevices("4xL4", [] { return std::vector<Device>(); }), {}, {});
  Workload workload{.prompt_tokens = 64, .output_tokens = 64, .concurrency = {2, 16}, .tpot_seconds_max = 0.1};
  Search search = *SearchStrategies(
      TestLlama({.layers = 8, .hidden = 1024, .intermediate = 4096, .vocab = 1000, .heads = 2, .kv_heads = 2}), fleet,
      PlanOptions(), workload);
  SearchReport report{.model = "a model", .fleet = fleet, .workload = workload, .search = search};
};

TEST(SearchReportTest, TheTableSaysWhatWasAskedAndWhatIsServed) {
  const Reported reported;
  const std::string table = SearchTable(reported.report);
  EXPECT_THAT(table, HasSubstr("a model on 4 x L4; requests of 64 + 64 tokens, 2, 16 at once, TPOT up to 100.0 ms"));
  EXPECT_THAT(table, HasSubstr("Speeds are assumed: 80%"));
  EXPECT_THAT(table, HasSubstr("servable"));
  EXPECT_THAT(table, HasSubstr("pareto"));
  EXPECT_THAT(table,
              HasSubstr("Dropped: TP 4: 2 heads, 1 for each of 2 key/value heads, cannot be shared by 4 ranks."));
  EXPECT_THAT(table, HasSubstr("Dropped: DP 4: 4 replicas for 2 requests."));
  const std::string markdown = SearchMarkdown(reported.report);
  EXPECT_THAT(markdown, HasSubstr("| rank | strategy |"));
}

TEST(SearchReportTest, JsonAndCsvHoldEveryCandidate) {
  const Reported reported;
  const nlohmann::json json = nlohmann::json::parse(SearchJson(reported.report));
  ASSERT_EQ(json["ranked"].size(), reported.search.ranked.size());
  EXPECT_EQ(json["dropped"].size(), reported.search.dropped.size());
  EXPECT_EQ(json["ranked"][0]["tokens_per_second"], reported.search.ranked[0].tokens_per_second);
  EXPECT_EQ(json["ranked"][0]["fullest"]["weights"], reported.search.ranked[0].fullest.weights);
  EXPECT_EQ(json["ttft_seconds_max"], nullptr);
  EXPECT_EQ(json["measured"], false);
  const std::vector<std::string> lines = absl::StrSplit(SearchCsv(reported.report), '\n');
  ASSERT_EQ(lines.size(),
            2 + reported.search.ranked.size() + reported.search.dropped.size());  // and what follows the last newline
  const auto columns = std::count(lines[0].begin(), lines[0].end(), ',');
  for (size_t i = 1; i + 1 < lines.size(); ++i) {
    const std::string unquoted = lines[i].substr(0, lines[i].find('"'));  // reasons may hold commas
    EXPECT_EQ(std::count(unquoted.begin(), unquoted.end(), ','), columns) << lines[i];
  }
}

}  // namespace
}  // namespace causeway
