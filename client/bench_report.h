// The figures of a load test, under the names that other load tests use.
#ifndef CAUSEWAY_CLIENT_BENCH_REPORT_H_
#define CAUSEWAY_CLIENT_BENCH_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace causeway {

// One request as its sender saw it. Times are in seconds since the request was sent.
struct BenchSample {
  bool ok = false;
  std::string error;
  int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;  // cached_tokens: how many of the prompt's
  double first_token_seconds = 0;
  double end_seconds = 0;
  std::vector<double> gaps_seconds;  // between messages with tokens: the inter-token latencies
};

// Interpolates linearly between the closest ranks; 0 for no values. `percent` is in [0, 100].
double Percentile(std::vector<double> values, double percent);

// It has completed, failed, duration, total_input_tokens, total_cached_tokens (of the input), total_output_tokens,
// request_throughput, output_throughput, total_token_throughput, and mean_, median_, p99_ of ttft_ms, tpot_ms (of
// requests with at least two tokens), itl_ms, e2el_ms.
nlohmann::json BenchReport(const std::vector<BenchSample>& samples, double duration_seconds);
std::string BenchTable(const nlohmann::json& report);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_BENCH_REPORT_H_
