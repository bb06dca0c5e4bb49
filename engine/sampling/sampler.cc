#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "engine/sampling/row_math.h"

namespace causeway {
namespace {

using Candidate = SampleScratch::Candidate;
using row_math::kBlock;

constexpr float kNever = -std::numeric_limits<float>::infinity();

// The order of likelihood. Ids make it total, so that every cut is at one definite place.
bool Before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// Whether processing changes any logit.
bool Processes(const SampleRow& row) {
  return !row.allowed.empty() || (row.masked != nullptr && !row.masked->empty()) || row.params->changes_logits();
}

void KeepAllowed(absl::Span<float> logits, absl::Span<const uint32_t> allowed) {
  for (size_t word = 0; word * 32 < logits.size(); ++word) {
    const uint32_t bits = word < allowed.size() ? allowed[word] : 0;
    if (bits == ~0u) continue;
    float* of_word = logits.data() + word * 32;
    const size_t count = std::min<size_t>(32, logits.size() - word * 32);
    if (bits == 0) {
      std::fill_n(of_word, count, kNever);
      continue;
    }
    for (size_t i = 0; i < count; ++i) of_word[i] = (bits >> i & 1) != 0 ? of_word[i] : kNever;
  }
}

void Process(absl::Span<float> logits, const SampleRow& row) {
  const SamplingParams& p = *row.params;
  const int64_t vocab = static_cast<int64_t>(logits.size());
  if (!row.allowed.empty()) KeepAllowed(logits, row.allowed);
  if (row.masked != nullptr) {
    for (int32_t token : *row.masked) {
      if (token >= 0 && token < vocab) logits[token] = kNever;
    }
  }
  for (const auto& [token, bias] : p.logit_bias) {
    if (token >= 0 && token < vocab) logits[token] += bias;
  }
  if (!p.needs_counts()) return;
  const int32_t* prompt = row.prompt_counts->data();
  const int32_t* output = row.output_counts->data();
  float* out = logits.data();
  if (p.repetition_penalty != 1) {
    const float penalty = static_cast<float>(p.repetition_penalty);
    for (int64_t i = 0; i < vocab; ++i) {
      if ((prompt[i] | output[i]) != 0) out[i] = out[i] > 0 ? out[i] / penalty : out[i] * penalty;
    }
  }
  if (p.frequency_penalty != 0 || p.presence_penalty != 0) {
    const float frequency = static_cast<float>(p.frequency_penalty), presence = static_cast<float>(p.presence_penalty);
    for (int64_t i = 0; i < vocab; ++i) {
      if (output[i] != 0) out[i] -= frequency * static_cast<float>(output[i]) + presence;
    }
  }
}

// Leaves `cut` and what comes before it.
void KeepUpTo(const Candidate cut, std::vector<Candidate>& kept) {
  kept.erase(std::remove_if(kept.begin(), kept.end(), [cut](const Candidate& c) { return Before(cut, c); }),
             kept.end());
}

// Appends to `kept`, in the order of ids, every token whose logit is at least `floor`.
void Gather(absl::Span<const float> logits, const std::vector<float>& maxima, float floor,
            std::vector<Candidate>& kept) {
  kept.clear();
  const int64_t n = static_cast<int64_t>(logits.size());
  for (size_t block = 0; block < maxima.size(); ++block) {
    if (!(maxima[block] >= floor) || maxima[block] == kNever) continue;
    const int64_t begin = static_cast<int64_t>(block) * kBlock, end = std::min(begin + kBlock, n);
    for (int64_t i = begin; i < end; ++i) {
      if (logits[i] >= floor && logits[i] != kNever) kept.push_back({logits[i], static_cast<int32_t>(i)});
    }
  }
}

// Leaves the k most likely of s.kept.
void KeepTopK(int64_t k, SampleScratch& s) {
  if (k >= static_cast<int64_t>(s.kept.size())) return;
  s.selection = s.kept;
  std::nth_element(s.selection.begin(), s.selection.begin() + (k - 1), s.selection.end(), Before);
  KeepUpTo(s.selection[k - 1], s.kept);
}

// Gathers the k most likely tokens.
void GatherTopK(absl::Span<const float> logits, int64_t k, SampleScratch& s) {
  // The k-th largest of the blocks' maxima is a lower bound of the k-th largest element.
  float floor = kNever;
  if (k <= static_cast<int64_t>(s.maxima.size())) {
    s.selection.clear();
    for (float max : s.maxima) s.selection.push_back({max, 0});
    std::nth_element(s.selection.begin(), s.selection.begin() + (k - 1), s.selection.end(), Before);
    floor = s.selection[k - 1].logit;
  }
  Gather(logits, s.maxima, floor, s.kept);
  KeepTopK(k, s);
}

// In the order of `before`, finds the fewest entries whose weights reach `target`, and returns the last of them. It
// selects by halves, as quickselect does, with weights in the place of counts: so it takes linear time on average.
// `selection` is not empty and gets reordered.
template <typename Entry, typename Order, typename Weight>
Entry CutAtMass(std::vector<Entry>& selection, double target, const Order& before, const Weight& weight) {
  auto begin = selection.begin(), end = selection.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, before);
    double mass = 0;
    for (auto it = begin; it != middle; ++it) mass += weight(*it);
    if (mass >= target) {
      end = middle;
    } else {
      target -= mass;
      begin = middle;
    }
  }
  return *begin;
}

// Draws among all tokens with a weight. One pass sums the blocks; then only the block that holds the target is walked.
int32_t DrawFromRow(absl::Span<const float> logits, double total, float max, float scale, double uniform,
                    const std::vector<double>& sums) {
  double target = uniform * total;
  // Rounding may leave the target at the end of the row. Then the last block and token with a weight are taken.
  size_t block = 0, last = 0;
  for (; block < sums.size(); ++block) {
    if (sums[block] > 0) last = block;
    if (sums[block] > target) break;
    target -= sums[block];
  }
  if (block == sums.size()) {
    block = last;
    target = std::numeric_limits<double>::infinity();
  }
  const int64_t begin = static_cast<int64_t>(block) * kBlock;
  const int64_t end = std::min(begin + kBlock, static_cast<int64_t>(logits.size()));
  int64_t chosen = begin;
  for (int64_t i = begin; i < end; ++i) {
    const double weight = row_math::Exp((logits[i] - max) * scale);
    if (weight <= 0) continue;
    chosen = i;
    if (weight > target) break;
    target -= weight;
  }
  return static_cast<int32_t>(chosen);
}

// Keeps the fewest of `kept` that reach `typical_p` of its mass: those whose surprise is nearest to the expected one
// come first. It also keeps what ties with the last of them. With x the logarithm of a token's weight, surprise less
// entropy is the mean of x less x.
template <typename Weight>
void KeepTypical(double typical_p, float max, float scale, const Weight& weight, SampleScratch& s) {
  const auto log_weight = [max, scale](const Candidate& c) -> double { return (c.logit - max) * scale; };
  double mass = 0, sum = 0;
  for (const Candidate& c : s.kept) {
    const double w = weight(c.logit);
    mass += w;
    if (w > 0) sum += w * log_weight(c);
  }
  const double mean = sum / mass;
  s.distances.clear();
  for (const Candidate& c : s.kept) s.distances.push_back({std::abs(log_weight(c) - mean), weight(c.logit)});
  using Distance = SampleScratch::Distance;
  const double cut =
      CutAtMass(
          s.distances, typical_p * mass, [](const Distance& a, const Distance& b) { return a.distance < b.distance; },
          [](const Distance& d) { return d.weight; })
          .distance;
  s.kept.erase(std::remove_if(s.kept.begin(), s.kept.end(),
                              [&](const Candidate& c) { return std::abs(log_weight(c) - mean) > cut; }),
               s.kept.end());
}

// How a row's logits become weights: that of the largest is 1.
struct Weights {
  // The scale is bounded, so that a difference of 0 stays 0 at the smallest temperatures.
  Weights(const SamplingParams& p, float largest)
      : max(largest), scale(static_cast<float>(std::min(1 / p.temperature, 1e30))) {}

  double operator()(float logit) const { return row_math::Exp((logit - max) * scale); }
  double Of(const std::vector<Candidate>& candidates) const {
    double mass = 0;
    for (const Candidate& c : candidates) mass += (*this)(c.logit);
    return mass;
  }
  float MinPFloor(const SamplingParams& p) const {
    return p.min_p > 0 ? max + static_cast<float>(std::log(p.min_p)) / scale : kNever;
  }

  float max, scale;
};

// Draws among s.kept, of which top_p keeps what reaches `top_p_mass`.
int32_t DrawFromKept(const SamplingParams& p, const Weights& weight, double top_p_mass, double uniform,
                     SampleScratch& s) {
  if (p.top_p < 1) {
    s.selection = s.kept;
    KeepUpTo(CutAtMass(s.selection, top_p_mass, Before, [&weight](const Candidate& c) { return weight(c.logit); }),
             s.kept);
  }
  const auto ruled_out = [floor = weight.MinPFloor(p)](const Candidate& c) { return c.logit < floor; };
  if (p.typical_p < 1) {
    s.kept.erase(std::remove_if(s.kept.begin(), s.kept.end(), ruled_out), s.kept.end());
    KeepTypical(p.typical_p, weight.max, weight.scale, weight, s);
  }
  double total = 0;
  for (const Candidate& c : s.kept) total += ruled_out(c) ? 0 : weight(c.logit);
  double target = uniform * total;
  int32_t chosen = s.kept.front().token;
  for (const Candidate& c : s.kept) {
    const double w = ruled_out(c) ? 0 : weight(c.logit);
    if (w <= 0) continue;
    chosen = c.token;
    if (w > target) break;
    target -= w;
  }
  return chosen;
}

int32_t Draw(absl::Span<const float> logits, const SamplingParams& p, double uniform, SampleScratch& s) {
  s.maxima.resize(row_math::Blocks(logits.size()));
  const float max = row_math::BlockMaxima(logits, s.maxima.data());
  // Nothing may be chosen, or one logit is infinite: there are no probabilities to draw by.
  if (!std::isfinite(max)) return static_cast<int32_t>(row_math::ArgMax(logits));

  const Weights weight(p, max);
  if (p.top_k > 0 && p.top_k < static_cast<int64_t>(logits.size())) {
    GatherTopK(logits, p.top_k, s);
    return DrawFromKept(p, weight, p.top_p * weight.Of(s.kept), uniform, s);
  }
  if (p.top_p < 1) {
    s.sums.resize(s.maxima.size());
    const double target = p.top_p * row_math::BlockExpSums(logits, max, weight.scale, s.sums.data());
    // The kept tokens nearly always lie among the few within a factor of e^8 of the likeliest.
    for (float reach : {8.0f, 20.0f, std::numeric_limits<float>::infinity()}) {
      Gather(logits, s.maxima, max - reach / weight.scale, s.kept);
      if (weight.Of(s.kept) >= target) break;
    }
    return DrawFromKept(p, weight, target, uniform, s);
  }
  if (p.min_p == 0 && p.typical_p == 1) {
    s.sums.resize(s.maxima.size());
    const double total = row_math::BlockExpSums(logits, max, weight.scale, s.sums.data());
    return DrawFromRow(logits, total, max, weight.scale, uniform, s.sums);
  }
  const float floor = p.min_p > 0 ? weight.MinPFloor(p) : max - 87 / weight.scale;  // nothing below has a weight
  Gather(logits, s.maxima, floor, s.kept);
  return DrawFromKept(p, weight, 0, uniform, s);
}

// Finds the `count` largest of the row, in order. One pass compares each element with the least of those found.
void TopOf(absl::Span<const float> row, size_t count, double log_total, std::vector<std::pair<int32_t, float>>& top) {
  top.reserve(count + 1);
  for (size_t i = 0; i < row.size(); ++i) {
    if (std::isnan(row[i]) || (top.size() == count && row[i] <= top.back().second)) continue;
    auto at =
        std::upper_bound(top.begin(), top.end(), row[i], [](float v, const auto& entry) { return v > entry.second; });
    top.insert(at, {static_cast<int32_t>(i), row[i]});
    if (top.size() > count) top.pop_back();
  }
  for (auto& [token, value] : top) value = static_cast<float>(value - log_total);
}

}  // namespace

SampleOutput SampleOne(absl::Span<float> logits, const SampleRow& row, SampleScratch& scratch) {
  const SamplingParams& p = *row.params;
  SampleOutput output;
  const bool processes = row.given < 0 && Processes(row);
  absl::Span<const float> raw = logits;
  double log_total = 0;
  if (p.logprobs) {
    scratch.maxima.resize(row_math::Blocks(logits.size()));
    scratch.sums.resize(scratch.maxima.size());
    const float max = row_math::BlockMaxima(logits, scratch.maxima.data());
    log_total = max + std::log(row_math::BlockExpSums(logits, max, 1, scratch.sums.data()));
    if (p.top_logprobs > 0) TopOf(logits, static_cast<size_t>(p.top_logprobs), log_total, output.top);
    if (processes) {
      scratch.raw.assign(logits.begin(), logits.end());
      raw = scratch.raw;
    }
  }
  if (processes) Process(logits, row);
  output.token = row.given >= 0       ? row.given
                 : p.temperature == 0 ? static_cast<int32_t>(row_math::ArgMax(logits))
                                      : Draw(logits, p, row.uniform, scratch);
  if (p.logprobs) output.logprob = static_cast<float>(raw[output.token] - log_total);
  return output;
}

int64_t CandidatesFor(const SamplingParams& p, int64_t vocab) {
  if (p.logprobs || p.prompt_logprobs || p.changes_logits()) return 0;
  if (p.temperature == 0) return 1;
  return p.top_k > 0 && p.top_k < vocab && p.top_k <= kCandidatesMax ? p.top_k : 0;
}

void FindCandidates(absl::Span<const float> logits, int64_t count, SampleScratch& s) {
  if (count == 1) {
    s.kept.clear();
    if (logits.empty()) return;
    const int64_t best = row_math::ArgMax(logits);
    if (logits[best] > kNever) s.kept.push_back({logits[best], static_cast<int32_t>(best)});
    return;
  }
  s.maxima.resize(row_math::Blocks(logits.size()));
  row_math::BlockMaxima(logits, s.maxima.data());
  GatherTopK(logits, count, s);
}

int32_t ChooseCandidate(const SampleRow& row, SampleScratch& s) {
  const SamplingParams& p = *row.params;
  if (row.given >= 0) return row.given;
  if (s.kept.empty()) return 0;
  const Candidate best = *std::min_element(s.kept.begin(), s.kept.end(), Before);
  if (p.temperature == 0 || !std::isfinite(best.logit)) return best.token;
  KeepTopK(p.top_k, s);
  const Weights weight(p, best.logit);
  return DrawFromKept(p, weight, p.top_p * weight.Of(s.kept), row.uniform, s);
}

bool Allows(const SampleRow& row, int32_t token) {
  const auto word = static_cast<size_t>(token) / 32;
  return row.allowed.empty() || (word < row.allowed.size() && (row.allowed[word] >> (token % 32) & 1) != 0);
}

double UniformAt(uint64_t seed, uint64_t position) {
  // The finisher of splitmix64, twice: mixing the seed first keeps neighbouring seeds' sequences apart.
  const auto mix = [](uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  };
  const uint64_t start = mix(seed + 0x9e3779b97f4a7c15u);
  return static_cast<double>(mix(start + (position + 1) * 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53;
}

}  // namespace causeway
