#include "client/bench_report.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace causeway {
namespace {

using Json = nlohmann::json;

void AddLatency(Json& report, const std::string& name, const std::vector<double>& seconds) {
  const double sum = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  report["mean_" + name] = seconds.empty() ? 0 : 1e3 * sum / seconds.size();
  report["median_" + name] = 1e3 * Percentile(seconds, 50);
  report["p99_" + name] = 1e3 * Percentile(seconds, 99);
}

}  // namespace

double Percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double rank = percent / 100 * (values.size() - 1);
  const auto low = static_cast<size_t>(rank);
  const size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (values[high] - values[low]) * (rank - low);
}

Json BenchReport(const std::vector<BenchSample>& samples, double duration_seconds) {
  int64_t completed = 0, input = 0, cached = 0, output = 0;
  std::vector<double> ttft, tpot, itl, e2el;
  for (const BenchSample& sample : samples) {
    if (!sample.ok) continue;
    ++completed;
    input += sample.prompt_tokens;
    cached += sample.cached_tokens;
    output += sample.output_tokens;
    e2el.push_back(sample.end_seconds);
    if (sample.output_tokens > 0) ttft.push_back(sample.first_token_seconds);
    if (sample.output_tokens > 1) {
      tpot.push_back((sample.end_seconds - sample.first_token_seconds) / (sample.output_tokens - 1));
    }
    itl.insert(itl.end(), sample.gaps_seconds.begin(), sample.gaps_seconds.end());
  }
  const double duration = std::max(duration_seconds, 1e-9);
  Json report{{"completed", completed},
              {"failed", static_cast<int64_t>(samples.size()) - completed},
              {"duration", duration_seconds},
              {"total_input_tokens", input},
              {"total_cached_tokens", cached},
              {"total_output_tokens", output},
              {"request_throughput", completed / duration},
              {"output_throughput", output / duration},
              {"total_token_throughput", (input + output) / duration}};
  AddLatency(report, "ttft_ms", ttft);
  AddLatency(report, "tpot_ms", tpot);
  AddLatency(report, "itl_ms", itl);
  AddLatency(report, "e2el_ms", e2el);
  return report;
}

std::string BenchTable(const Json& report) {
  const auto number = [&](const std::string& key) { return report[key].get<double>(); };
  std::string out;
  absl::StrAppendFormat(&out, "%-34s %10d\n", "requests completed", report["completed"].get<int64_t>());
  absl::StrAppendFormat(&out, "%-34s %10d\n", "requests failed", report["failed"].get<int64_t>());
  absl::StrAppendFormat(&out, "%-34s %10.2f\n", "duration (s)", number("duration"));
  absl::StrAppendFormat(&out, "%-34s %10d\n", "prompt tokens", report["total_input_tokens"].get<int64_t>());
  // Where this is above 0 and should not be, the latencies are those of a warm cache. Another --seed makes other
  // prompts.
  absl::StrAppendFormat(&out, "%-34s %10d\n", "prompt tokens from the cache",
                        report["total_cached_tokens"].get<int64_t>());
  absl::StrAppendFormat(&out, "%-34s %10d\n", "generated tokens", report["total_output_tokens"].get<int64_t>());
  absl::StrAppendFormat(&out, "%-34s %10.2f\n", "requests/s", number("request_throughput"));
  absl::StrAppendFormat(&out, "%-34s %10.2f\n", "generated tokens/s", number("output_throughput"));
  absl::StrAppendFormat(&out, "%-34s %10.2f\n\n", "all tokens/s", number("total_token_throughput"));
  absl::StrAppendFormat(&out, "%-34s %10s %10s %10s\n", "latency (ms)", "mean", "median", "p99");
  const std::pair<const char*, const char*> rows[] = {{"time to first token (TTFT)", "ttft_ms"},
                                                      {"time per output token (TPOT)", "tpot_ms"},
                                                      {"inter-token latency (ITL)", "itl_ms"},
                                                      {"end to end", "e2el_ms"}};
  for (const auto& [label, key] : rows) {
    absl::StrAppendFormat(&out, "%-34s %10.2f %10.2f %10.2f\n", label, number(absl::StrCat("mean_", key)),
                          number(absl::StrCat("median_", key)), number(absl::StrCat("p99_", key)));
  }
  return out;
}

}  // namespace causeway
