#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/sampling/row_math.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;

constexpr float kInf = std::numeric_limits<float>::infinity();

SampleOutput Sample(std::vector<float> logits, const SamplingParams& params, double uniform = 0,
                    const std::vector<int32_t>& masked = {}, const std::vector<int32_t>& prompt = {},
                    const std::vector<int32_t>& output = {}) {
  std::vector<int32_t> prompt_counts(logits.size()), output_counts(logits.size());
  for (int32_t token : prompt) ++prompt_counts[token];
  for (int32_t token : output) ++output_counts[token];
  SampleRow row;
  row.params = &params;
  row.masked = &masked;
  if (params.needs_counts()) row.prompt_counts = &prompt_counts, row.output_counts = &output_counts;
  row.uniform = uniform;
  static SampleScratch* scratch = new SampleScratch;  // shared, so that leftovers of a call show
  return SampleOne(absl::MakeSpan(logits), row, *scratch);
}

SamplingParams Greedy() {
  SamplingParams params;
  params.temperature = 0;
  return params;
}

std::vector<float> RandomLogits(int64_t n, float spread, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(n);
  for (float& x : logits) x = normal(random);
  return logits;
}

// The documentation, written out plainly in doubles: the probability of each token after all filters.
std::vector<double> Distribution(const std::vector<float>& logits, const SamplingParams& p) {
  const size_t n = logits.size();
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  const double max = logits[order[0]];
  std::vector<double> weight(n);
  for (size_t i = 0; i < n; ++i) weight[i] = std::exp((logits[i] - max) / p.temperature);
  size_t keep = n;
  if (p.top_k > 0 && p.top_k < static_cast<int64_t>(n)) {
    keep = p.top_k;
  }
  double total = 0;
  for (size_t i = 0; i < keep; ++i) total += weight[order[i]];
  if (p.top_p < 1) {
    double mass = 0;
    size_t kept = 0;
    while (kept < keep && mass < p.top_p * total) mass += weight[order[kept++]];
    keep = kept;
  }
  std::vector<double> probability(n);
  total = 0;
  for (size_t i = 0; i < keep; ++i) {
    if (weight[order[i]] >= p.min_p) total += probability[order[i]] = weight[order[i]];
  }
  if (p.typical_p < 1) {
    double entropy = 0;
    for (double x : probability) entropy -= x > 0 ? x / total * std::log(x / total) : 0;
    std::vector<std::pair<double, int32_t>> far;
    for (size_t i = 0; i < n; ++i) {
      if (probability[i] > 0)
        far.push_back({std::abs(-std::log(probability[i] / total) - entropy), static_cast<int32_t>(i)});
    }
    std::sort(far.begin(), far.end());
    double mass = 0;
    size_t kept = 0;
    while (kept < far.size() && mass < p.typical_p * total) mass += probability[far[kept++].second];
    while (kept < far.size() && far[kept].first <= far[kept - 1].first + 1e-9) mass += probability[far[kept++].second];
    for (; kept < far.size(); ++kept) probability[far[kept].second] = 0;
    total = mass;
  }
  for (double& x : probability) x /= total;
  return probability;
}

TEST(Greedy, LargestLogitLowestIdOnTies) {
  EXPECT_EQ(Sample({1, 3, 2, 3}, Greedy()).token, 1);
  EXPECT_EQ(Sample({-5, -3, -3}, Greedy()).token, 1);
  EXPECT_EQ(Sample({7}, Greedy()).token, 0);
  EXPECT_EQ(Sample({0, kInf, kInf}, Greedy()).token, 1);
}

TEST(Greedy, EveryPositionOfEveryLength) {
  // The lengths are around the lanes and blocks of the vectorised pass.
  for (int n : {1, 15, 16, 17, 255, 256, 257, 300, 512, 1000}) {
    for (int at = 0; at < n; ++at) {
      std::vector<float> logits(n, -1.0f);
      logits[at] = 1;
      if (at + 1 < n) logits[n - 1] = 1;
      ASSERT_EQ(Sample(logits, Greedy()).token, at) << n;
    }
  }
}

TEST(Greedy, NansArePassedOver) {
  const float nan = std::nanf("");
  EXPECT_EQ(Sample({nan, 1, 2, nan}, Greedy()).token, 2);
  EXPECT_EQ(Sample({nan, nan}, Greedy()).token, 0);
  SamplingParams warm;
  for (double u : {0.0, 0.5, 0.999}) {
    EXPECT_EQ(Sample({nan, 4, nan}, warm, u).token, 1);
    EXPECT_EQ(Sample({nan, nan}, warm, u).token, 0);
    EXPECT_EQ(Sample({1, kInf, 2}, warm, u).token, 1);
  }
}

TEST(Processors, MaskAndBias) {
  SamplingParams params = Greedy();
  EXPECT_EQ(Sample({1, 3, 2}, params, 0, {1}).token, 2);
  EXPECT_EQ(Sample({1, 3, 2}, params, 0, {1, 2, 500, -3}).token, 0);  // ids outside are ignored
  params.logit_bias = {{0, 2.5f}};
  EXPECT_EQ(Sample({1, 3, 2}, params).token, 0);
  params.logit_bias = {{1, 100}};
  EXPECT_EQ(Sample({1, 3, 2}, params, 0, {1}).token, 2) << "a bias must not unmask";
  for (double temperature : {0.0, 1.0}) {
    SamplingParams none;
    none.temperature = temperature;
    EXPECT_EQ(Sample({1, 3, 2}, none, 0.5, {0, 1, 2}).token, 0) << "nothing is left to choose";
  }
}

TEST(Processors, RepetitionOverPromptAndOutputAsHuggingFace) {
  SamplingParams params = Greedy();
  params.repetition_penalty = 2;
  EXPECT_EQ(Sample({4, 3}, params, 0, {}, {0}).token, 1);  // 4 / 2 < 3
  EXPECT_EQ(Sample({4, 3}, params, 0, {}, {}, {0}).token, 1);
  EXPECT_EQ(Sample({4, 1.5f}, params, 0, {}, {0, 0, 0}).token, 0);  // counts once, however often it was seen: 2 > 1.5
  EXPECT_EQ(Sample({-1, -1.5f}, params, 0, {}, {0}).token, 1);      // -1 * 2 < -1.5
  params.repetition_penalty = 0.5;
  EXPECT_EQ(Sample({-2, -1.5f}, params, 0, {}, {0}).token, 0);  // -2 * 0.5 > -1.5
}

TEST(Processors, PresenceAndFrequencyOverOutputOnly) {
  SamplingParams presence = Greedy();
  presence.presence_penalty = 1;
  EXPECT_EQ(Sample({3, 2.5f}, presence, 0, {}, {0, 0}).token, 0) << "the prompt doesn't count";
  EXPECT_EQ(Sample({3, 2.5f}, presence, 0, {}, {}, {0}).token, 1);
  EXPECT_EQ(Sample({3, 1.5f}, presence, 0, {}, {}, {0, 0, 0}).token, 0) << "once, however often";
  SamplingParams frequency = Greedy();
  frequency.frequency_penalty = 0.5;
  EXPECT_EQ(Sample({3, 2.2f}, frequency, 0, {}, {}, {0}).token, 0);
  EXPECT_EQ(Sample({3, 2.2f}, frequency, 0, {}, {}, {0, 0}).token, 1) << "each time";
  frequency.frequency_penalty = -1;
  EXPECT_EQ(Sample({3, 2.5f}, frequency, 0, {}, {}, {1}).token, 1);
}

TEST(Processors, BiasComesBeforeRepetition) {
  SamplingParams params = Greedy();
  params.repetition_penalty = 4;
  params.logit_bias = {{0, 8}};
  EXPECT_EQ(Sample({-4, 2}, params, 0, {}, {0}).token, 1);  // (-4 + 8) / 4 = 1; the other order gives -8
  EXPECT_EQ(Sample({-4, 0.5f}, params, 0, {}, {0}).token, 0);
}

TEST(Logprobs, OfTheRawDistribution) {
  SamplingParams params;
  params.logprobs = true, params.top_logprobs = 2;
  params.temperature = 0.5, params.top_k = 1, params.logit_bias = {{0, 100}};
  const SampleOutput output = Sample({1, 3, 2, -kInf}, params);
  const double total = std::log(std::exp(1.0) + std::exp(3.0) + std::exp(2.0));
  EXPECT_EQ(output.token, 0);
  EXPECT_NEAR(output.logprob, 1 - total, 1e-6);
  ASSERT_EQ(output.top.size(), 2u);
  EXPECT_EQ(output.top[0].first, 1);
  EXPECT_NEAR(output.top[0].second, 3 - total, 1e-6);
  EXPECT_EQ(output.top[1].first, 2);
  EXPECT_NEAR(output.top[1].second, 2 - total, 1e-6);
}

TEST(Logprobs, TopOfALargeRowInOrderLowIdsFirst) {
  std::vector<float> logits = RandomLogits(5000, 3, 7);
  logits[4000] = logits[17] = 30;
  logits[18] = std::nanf("");
  SamplingParams params = Greedy();
  params.logprobs = true, params.top_logprobs = 20;
  const SampleOutput output = Sample(logits, params);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  order.erase(order.begin() + 18);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  double sum = 0;
  for (int32_t i : order) sum += std::exp(static_cast<double>(logits[i]));
  ASSERT_EQ(output.top.size(), 20u);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(output.top[i].first, order[i]);
    EXPECT_NEAR(output.top[i].second, logits[order[i]] - std::log(sum), 2e-5);
  }
  EXPECT_EQ(output.token, 17);
}

TEST(Logprobs, FewerTokensThanAskedFor) {
  SamplingParams params = Greedy();
  params.logprobs = true, params.top_logprobs = 20;
  EXPECT_EQ(Sample({1, 2, 3}, params).top.size(), 3u);
}

// Checks the exact inverse of the distribution function: for each token, uniforms just inside both ends of its interval
// must choose it. This is stronger than any statistic.
void ExpectExact(const std::vector<float>& logits, const SamplingParams& params) {
  const std::vector<double> expected = Distribution(logits, params);
  double low = 0;
  const double likeliest = *std::max_element(expected.begin(), expected.end());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double high = low + expected[i];
    // Checks the likely tokens, and every 37th of the others, which is enough and quick.
    if (expected[i] > 1e-4 && (expected[i] > 0.2 * likeliest || i % 37 == 0)) {
      const double margin = expected[i] * 0.01 + 2e-6;
      ASSERT_EQ(Sample(logits, params, low + margin).token, static_cast<int32_t>(i)) << "low end, p " << expected[i];
      ASSERT_EQ(Sample(logits, params, high - margin).token, static_cast<int32_t>(i)) << "high end, p " << expected[i];
    }
    low = high;
  }
  const int32_t last = Sample(logits, params, std::nextafter(1.0, 0.0)).token;
  ASSERT_GT(expected[last], 0) << "token " << last << " was filtered out";
  ASSERT_GT(expected[Sample(logits, params, 0).token], 0);
}

TEST(Sampling, ExactOverFiltersTemperaturesAndShapes) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    const int64_t n = std::vector<int64_t>{1, 2, 17, 256, 700, 3000}[random() % 6];
    const float spread = std::vector<float>{0, 0.01f, 1, 4, 20}[random() % 5];
    std::vector<float> logits = RandomLogits(n, spread, random());
    if (random() % 3 == 0) {
      for (float& x : logits) x = std::round(x);  // many ties
    }
    SamplingParams params;
    params.temperature = std::vector<double>{0.05, 0.7, 1, 2}[random() % 4];
    if (random() % 2) params.top_k = std::vector<int32_t>{1, 2, 5, 50, 400, 100000}[random() % 6];
    if (random() % 2) params.top_p = std::vector<double>{1e-6, 0.123, 0.5, 0.9, 0.99, 0.9999}[random() % 6];
    if (random() % 2) params.min_p = std::vector<double>{0.001, 0.05, 0.3, 1}[random() % 4];
    if (random() % 3 == 0) params.typical_p = std::vector<double>{1e-6, 0.2, 0.5, 0.9, 0.99}[random() % 5];
    SCOPED_TRACE(testing::Message() << "typical_p " << params.typical_p << " round " << round << " n " << n
                                    << " spread " << spread << " temperature " << params.temperature << " top_k "
                                    << params.top_k << " top_p " << params.top_p << " min_p " << params.min_p);
    ExpectExact(logits, params);
    if (HasFatalFailure()) return;
  }
}

// All tokens that can be drawn.
std::vector<int32_t> Support(const std::vector<float>& logits, const SamplingParams& params) {
  std::map<int32_t, int> seen;
  for (int i = 0; i < 2000; ++i) ++seen[Sample(logits, params, (i + 0.5) / 2000).token];
  std::vector<int32_t> tokens;
  for (const auto& [token, count] : seen) tokens.push_back(token);
  return tokens;
}

TEST(Sampling, TopKKeepsTheLowestIdsOnTies) {
  SamplingParams params;
  params.top_k = 2;
  EXPECT_THAT(Support({1, 5, 4, 4, 0}, params), ElementsAre(1, 2));
  EXPECT_THAT(Support({4, 4, 4, 5, 4}, params), ElementsAre(0, 3));
  EXPECT_THAT(Support({1, 5, 4, 3, 0}, params), ElementsAre(1, 2));
}

// In bf16, the likeliest of a large vocabulary often tie.
TEST(Sampling, TopKOfOneIsGreedy) {
  SamplingParams one;
  one.top_k = 1, one.temperature = 2;
  EXPECT_THAT(Support({1, 3, 3, 2, 3}, one), ElementsAre(1));
  for (int round = 0; round < 200; ++round) {
    std::vector<float> logits = RandomLogits(1 + 13 * round, 2, round);
    for (float& x : logits) x = std::round(x);
    one.top_p = round % 2 == 0 ? 1 : 0.3, one.min_p = round % 3 == 0 ? 0.5 : 0,
    one.typical_p = round % 5 == 0 ? 0.5 : 1;
    for (double u : {0.0, 0.5, std::nextafter(1.0, 0.0)})
      ASSERT_EQ(Sample(logits, one, u).token, Sample(logits, Greedy()).token) << "round " << round;
  }
}

TEST(Sampling, TopPKeepsTheTokenThatCrosses) {
  // Probabilities 0.5, 0.3, 0.15, 0.05.
  const std::vector<float> logits = {std::log(0.15f), std::log(0.5f), std::log(0.05f), std::log(0.3f)};
  SamplingParams params;
  params.top_p = 0.45;
  EXPECT_THAT(Support(logits, params), ElementsAre(1));
  params.top_p = 0.55;
  EXPECT_THAT(Support(logits, params), ElementsAre(1, 3));
  params.top_p = 0.81;
  EXPECT_THAT(Support(logits, params), ElementsAre(0, 1, 3));
  params.top_p = 1e-9;
  EXPECT_THAT(Support(logits, params), ElementsAre(1)) << "never empty";
  params.top_p = 0.5, params.top_k = 2;  // the two that are kept, renormalised: 0.625, 0.375
  EXPECT_THAT(Support(logits, params), ElementsAre(1));
}

// transformers 5's TypicalLogitsWarper keeps these, alone and after its warpers of temperature, top_k, top_p and min_p.
TEST(Sampling, TypicalKeepsWhatTransformersKeeps) {
  const std::vector<std::vector<float>> rows = {
      {0.92f, 0.26f, -0.86f, -0.85f, 1.01f, -0.13f, -0.07f, -0.72f, 0.2f, -0.01f, -0.68f, -0.37f},
      {0.99f, -0.42f, -0.58f, -0.78f, 2.78f, 1.22f, -0.34f, -0.97f, -0.13f, -0.6f, 0.14f, -0.15f},
      {-0.87f, 1.56f, -0.12f, -4.06f, 2.97f, 0.99f, 0.5f, 3.49f, -0.52f, -1.46f, 3.4f, -0.36f},
      {7.69f, 1.15f, 3.75f, -9.61f, -0.59f, 3.59f, 2.19f, -6.56f, -7.26f, -0.83f, -2.1f, -6.79f}};
  const std::vector<std::pair<double, std::vector<std::vector<int32_t>>>> expected = {
      {0.1, {{1, 8}, {5}, {4}, {0}}},
      {0.3, {{1, 6, 8, 9}, {0, 4, 5}, {4, 10}, {0}}},
      {0.6, {{0, 1, 5, 6, 8, 9, 11}, {0, 4, 5}, {4, 7, 10}, {0}}},
      {0.9, {{0, 1, 4, 5, 6, 7, 8, 9, 10, 11}, {0, 4, 5, 6, 8, 10, 11}, {1, 4, 7, 10}, {0}}}};
  for (const auto& [typical_p, kept] : expected) {
    SamplingParams params;
    params.typical_p = typical_p;
    for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(Support(rows[i], params), kept[i]) << typical_p << " row " << i;
  }
  SamplingParams all;
  all.temperature = 1.5, all.top_k = 9, all.top_p = 0.9, all.min_p = 0.05, all.typical_p = 0.5;
  const std::vector<std::vector<int32_t>> kept = {{1, 5, 6, 8, 9}, {0, 4, 5}, {4, 10}, {0}};
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(Support(rows[i], all), kept[i]) << "row " << i;
}

TEST(Sampling, MinPIsRelativeToTheLargest) {
  const std::vector<float> logits = {std::log(0.15f), std::log(0.5f), std::log(0.05f), std::log(0.3f)};
  SamplingParams params;
  params.min_p = 0.29;
  EXPECT_THAT(Support(logits, params), ElementsAre(0, 1, 3));
  params.min_p = 0.31;
  EXPECT_THAT(Support(logits, params), ElementsAre(1, 3));
  params.min_p = 1;
  EXPECT_THAT(Support(logits, params), ElementsAre(1));
  params.min_p = 0.31, params.temperature = 2;  // applies after the temperature: sqrt(0.15 / 0.5) = 0.55
  EXPECT_THAT(Support(logits, params), ElementsAre(0, 1, 2, 3));
}

TEST(Sampling, TinyTemperatureIsGreedyInTheLimit) {
  SamplingParams params;
  for (double temperature : {1e-3, 1e-30, 1e-300}) {
    params.temperature = temperature;
    for (double u : {0.0, 0.5, 0.9999}) {
      EXPECT_EQ(Sample({1, 2, 3, 2.9f}, params, u).token, 2) << temperature;
      SamplingParams filtered = params;
      filtered.top_p = 0.9, filtered.min_p = 0.1;
      EXPECT_EQ(Sample({1, 2, 3, 2.9f}, filtered, u).token, 2) << temperature;
    }
  }
}

TEST(Sampling, ChiSquaredAgainstTheDistribution) {
  const std::vector<float> logits = RandomLogits(40, 1, 11);
  SamplingParams params;
  params.temperature = 0.8, params.top_p = 0.95, params.seed = 42;
  const std::vector<double> expected = Distribution(logits, params);
  constexpr int kDraws = 200'000;
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) ++counts[Sample(logits, params, UniformAt(params.seed, i)).token];
  double chi = 0;
  int cells = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (expected[i] == 0) {
      EXPECT_EQ(counts[i], 0);
      continue;
    }
    const double mean = expected[i] * kDraws;
    chi += (counts[i] - mean) * (counts[i] - mean) / mean;
    ++cells;
  }
  // The mean is cells - 1, the deviation sqrt(2 (cells - 1)). The seed fixes the draws, so this either always holds or
  // never.
  EXPECT_LT(chi, cells - 1 + 4 * std::sqrt(2.0 * (cells - 1)));
}

TEST(RowMath, ExpAgreesWithTheLibrary) {
  for (double x = -86.9; x <= 0; x += 0.0137) {
    const double exact = std::exp(static_cast<double>(static_cast<float>(x)));
    ASSERT_NEAR(row_math::Exp(static_cast<float>(x)) / exact, 1, 2e-7) << x;
  }
  EXPECT_EQ(row_math::Exp(0), 1);
  EXPECT_EQ(row_math::Exp(-1000), 0);
  EXPECT_EQ(row_math::Exp(-kInf), 0);
  EXPECT_EQ(row_math::Exp(std::nanf("")), 0);
}

TEST(RowMath, BlockSumsOfEveryTail) {
  for (int64_t n = 1; n < 600; n += 7) {
    const std::vector<float> row = RandomLogits(n, 2, n);
    std::vector<float> maxima(row_math::Blocks(n));
    std::vector<double> sums(row_math::Blocks(n));
    const float max = row_math::BlockMaxima(row, maxima.data());
    ASSERT_EQ(max, *std::max_element(row.begin(), row.end()));
    double exact = 0;
    for (float x : row) exact += std::exp((static_cast<double>(x) - max) * 0.5);
    ASSERT_NEAR(row_math::BlockExpSums(row, max, 0.5f, sums.data()) / exact, 1, 1e-6);
    ASSERT_NEAR(std::accumulate(sums.begin(), sums.end(), 0.0) / exact, 1, 1e-6);
  }
}

// The numbers are uniform within and between sequences: over positions, over seeds, and as differences of neighbours.
TEST(UniformAt, IsUniformAndIndependent) {
  constexpr int kBins = 64, kDraws = 1 << 18;
  const auto chi = [](const std::vector<int>& counts) {
    double sum = 0;
    const double mean = static_cast<double>(kDraws) / counts.size();
    for (int count : counts) sum += (count - mean) * (count - mean) / mean;
    return sum;
  };
  const auto limit = [](double cells) { return cells - 1 + 4.5 * std::sqrt(2 * (cells - 1)); };
  for (uint64_t seed : {0ull, 1ull, 2ull, 1234567ull, ~0ull}) {
    std::vector<int> by_position(kBins), by_seed(kBins), pairs(kBins * kBins), neighbours(kBins * kBins);
    for (int i = 0; i < kDraws; ++i) {
      const double x = UniformAt(seed, i), next = UniformAt(seed, i + 1), beside = UniformAt(seed + 1, i);
      ASSERT_GE(x, 0);
      ASSERT_LT(x, 1);
      ++by_position[static_cast<int>(x * kBins)];
      ++by_seed[static_cast<int>(UniformAt(seed + i, 5) * kBins)];
      ++pairs[static_cast<int>(x * kBins) * kBins + static_cast<int>(next * kBins)];
      ++neighbours[static_cast<int>(x * kBins) * kBins + static_cast<int>(beside * kBins)];
    }
    EXPECT_LT(chi(by_position), limit(kBins));
    EXPECT_LT(chi(by_seed), limit(kBins));
    EXPECT_LT(chi(pairs), limit(kBins * kBins));
    EXPECT_LT(chi(neighbours), limit(kBins * kBins));
  }
}

TEST(UniformAt, SequencesOfNeighbouringSeedsAreNotShiftedCopies) {
  std::map<double, int> seen;
  for (uint64_t seed = 0; seed < 64; ++seed) {
    for (uint64_t position = 0; position < 512; ++position) ++seen[UniformAt(seed, position)];
  }
  EXPECT_EQ(seen.size(), 64u * 512);
}

// Streams are promised to be the same on every machine and in every version.
TEST(UniformAt, IsFixed) {
  EXPECT_DOUBLE_EQ(UniformAt(0, 0), 0.6524484863740322);
  EXPECT_DOUBLE_EQ(UniformAt(0, 1), 0.7012121095215252);
  EXPECT_DOUBLE_EQ(UniformAt(~0ull, 1 << 20), 0.6439801416380194);
}

}  // namespace
}  // namespace causeway
