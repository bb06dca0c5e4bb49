#include "client/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(BenchReportTest, PercentilesInterpolate) {
  EXPECT_DOUBLE_EQ(Percentile({}, 50), 0);
  EXPECT_DOUBLE_EQ(Percentile({3}, 99), 3);
  EXPECT_DOUBLE_EQ(Percentile({4, 1, 2, 3}, 50), 2.5);
  EXPECT_DOUBLE_EQ(Percentile({0, 100}, 99), 99);
}

TEST(BenchReportTest, FiguresByHand) {
  BenchSample a{.ok = true,
                .error = "",
                .prompt_tokens = 10,
                .cached_tokens = 3,
                .output_tokens = 5,
                .first_token_seconds = 0.1,
                .end_seconds = 0.5,
                .gaps_seconds = {0.1, 0.1, 0.1, 0.1}};
  BenchSample b = a;
  b.first_token_seconds = 0.3;
  b.end_seconds = 1.1;
  b.gaps_seconds = {0.2, 0.2, 0.2, 0.2};
  BenchSample failed;
  const auto report = BenchReport({a, b, failed}, 2.0);
  EXPECT_EQ(report["completed"], 2);
  EXPECT_EQ(report["failed"], 1);
  EXPECT_EQ(report["total_cached_tokens"], 6);
  EXPECT_DOUBLE_EQ(report["request_throughput"], 1.0);
  EXPECT_DOUBLE_EQ(report["output_throughput"], 5.0);
  EXPECT_DOUBLE_EQ(report["total_token_throughput"], 15.0);
  EXPECT_NEAR(report["mean_ttft_ms"].get<double>(), 200, 1e-9);
  EXPECT_NEAR(report["median_tpot_ms"].get<double>(), 150, 1e-9);
  EXPECT_NEAR(report["mean_itl_ms"].get<double>(), 150, 1e-9);
  EXPECT_THAT(BenchTable(report), testing::HasSubstr("time to first token (TTFT)"));
}

TEST(BenchReportTest, NothingCompletedIsNoDivisionByZero) {
  const auto report = BenchReport({BenchSample{}}, 0);
  EXPECT_EQ(report["completed"], 0);
  EXPECT_EQ(report["mean_ttft_ms"], 0);
}

}  // namespace
}  // namespace causeway
