#include "engine/plan/auto_policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace causeway {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();
// Added to a spread for a device that holds only what no step needs: nowhere else has it room.
constexpr double kLastResort = 1e6;

// What `stages` stages hand over lies on each of them, so every number of stages is a search of its own. Given that number and a
// bound on the fullest device, a search is greedy: of prefixes that so many stages can hold, the longest leaves least to do.
class Cuts {
 public:
  Cuts(const StageCosts& costs, absl::Span<const StageDevice> devices) : costs_(costs) {
    for (size_t i = 0; i < devices.size(); ++i) {
      if (devices[i].budget <= 0) continue;
      const auto like = [&](int other) { return devices[other].budget == devices[i].budget && devices[other].reserve == devices[i].reserve; };
      const int kind = static_cast<int>(std::find_if(live_.begin(), live_.end(), like) - live_.begin());
      live_.push_back(static_cast<int>(i));
      devices_.push_back(devices[i]);
      kind_.push_back(kind);
    }
  }

  int devices() const { return static_cast<int>(devices_.size()); }

  // How many stages to try. Where nothing is handed over, a search for as many as there are devices finds all of fewer; else all, in
  // an order of no meaning: few are then better than all before them, and only these take more than a look.
  std::vector<int> StageCounts() const {
    if (devices() == 0) return {};
    if (costs_.handoff_bytes.empty() || costs_.handoff_bytes[devices()] == costs_.handoff_bytes[1]) return {devices()};
    std::vector<int> counts(std::min(devices(), costs_.items));
    std::iota(counts.begin(), counts.end(), 1);
    std::shuffle(counts.begin(), counts.end(), std::minstd_rand(1));
    return counts;
  }

  // Whether at most `stages` stages can hold everything, no device being fuller than `limit`.
  bool Holds(int stages, int64_t blocks, double limit) const {
    const int counted = Counted(stages);
    std::vector<int> end(counted + 1, 0);  // by stages so far: how many items they and what no step needs can cover
    std::vector<std::vector<int>> known(devices_.size());  // by kind of device and first item: where the longest run ends
    for (int d = 0; d < devices(); ++d) {
      std::vector<int>& ends = known[kind_[d]];
      if (ends.empty()) ends.assign(costs_.items, -1);
      for (int s = std::min(counted, d + 1); s >= 0; --s) {
        const int before = counted > 0 ? s - 1 : 0, first = before < 0 ? costs_.items : end[before];
        if (end[s] < costs_.items && !costs_.of(end[s], end[s]).computes) end[s] = std::max(end[s], IdleEnd(d, end[s], blocks, limit));
        if (first == costs_.items) continue;
        int& found = ends[first];
        if (found < 0) found = RunEnd(d, first, stages, blocks, limit);
        end[s] = std::max(end[s], found);
      }
    }
    return *std::max_element(end.begin(), end.end()) == costs_.items;
  }

  // The least limit with which `stages` stages hold everything, below `most`; `most` where none is.
  double Fullest(int stages, int64_t blocks, double most) const {
    if (!Holds(stages, blocks, std::nextafter(most, 0))) return most;
    if (Holds(stages, blocks, 0)) return 0;
    double least = 0;  // not this one
    most = std::min(most, Fraction(costs_.of(0, costs_.items - 1), 0, stages, blocks));
    while (std::nextafter(least, most) < most) {
      const double middle = least + (most - least) / 2;
      (Holds(stages, blocks, middle) ? most : least) = middle;
    }
    return most;
  }

  // Of partitions that keep the limit, the one of least spread.
  Partition Even(int stages, int64_t blocks, double limit) const {
    const int items = costs_.items, counted = Counted(stages);
    // By stages so far, then by items that the devices so far hold.
    std::vector<std::vector<double>> spread(counted + 1, std::vector<double>(items + 1, kImpossible));
    std::vector<std::vector<std::vector<Start>>> starts(devices_.size());
    spread[0][0] = 0;
    for (int d = 0; d < devices(); ++d) {
      std::vector<std::vector<double>> next = spread;
      starts[d].assign(counted + 1, std::vector<Start>(items + 1));
      for (int n = 1; n <= items; ++n) {
        for (int first = n - 1; first >= 0; --first) {
          const StageCost cost = costs_.of(first, n - 1);
          const double fraction = Fraction(cost, d, stages, blocks), square = fraction * fraction + (cost.computes ? 0 : kLastResort);
          if (fraction > limit) break;  // longer runs cost no less
          double worst = 0;
          const int one = counted > 0 && cost.computes ? 1 : 0;
          for (int s = one; s <= counted; ++s) {
            const double sum = spread[s - one][first] + square;
            if (sum < next[s][n]) next[s][n] = sum, starts[d][s][n] = {first, s - one};
            worst = std::max(worst, next[s][n]);
          }
          if (cost.computes && square >= worst) break;
        }
      }
      spread = std::move(next);
    }
    int s = 0;
    for (int other = 1; other <= counted; ++other) s = spread[other][items] < spread[s][items] ? other : s;
    Partition result;
    result.fullest = limit;
    result.spread = spread[s][items];
    result.device_of_item.resize(items);
    for (int d = devices() - 1, n = items; d >= 0; --d) {
      const Start start = starts[d][s][n];
      if (start.first < 0) continue;  // the device stays empty
      std::fill(result.device_of_item.begin() + start.first, result.device_of_item.begin() + n, live_[d]);
      n = start.first;
      s = start.stages;
    }
    return result;
  }

 private:
  // As many stages as devices need not be counted: 0.
  int Counted(int stages) const { return stages < devices() ? stages : 0; }

  struct Start {
    int first = -1, stages = 0;  // a device's first item, and the stages before it
  };

  // In floating point, where nothing overflows; exact up to petabytes.
  double Fraction(const StageCost& cost, int d, int stages, int64_t blocks) const {
    double bytes = static_cast<double>(cost.fixed_bytes) + static_cast<double>(blocks) * static_cast<double>(cost.block_bytes);
    if (cost.computes) bytes += static_cast<double>(devices_[d].reserve + (costs_.handoff_bytes.empty() ? 0 : costs_.handoff_bytes[stages]));
    return bytes / static_cast<double>(devices_[d].budget);
  }

  // Behind the longest run from `first` on that a device holds within the limit; `first` where it holds nothing.
  int RunEnd(int d, int first, int stages, int64_t blocks, double limit) const {
    int good = first, bad = costs_.items + 1;
    while (bad - good > 1) {
      const int middle = good + (bad - good) / 2;
      (Fraction(costs_.of(first, middle - 1), d, stages, blocks) <= limit ? good : bad) = middle;
    }
    return good;
  }

  int IdleEnd(int d, int first, int64_t blocks, double limit) const {
    int n = first;
    while (n < costs_.items) {
      const StageCost cost = costs_.of(first, n);
      if (cost.computes || Fraction(cost, d, 0, blocks) > limit) break;
      ++n;
    }
    return n;
  }

  const StageCosts& costs_;
  std::vector<int> live_, kind_;  // indices of devices with a budget; the first of them that is alike
  std::vector<StageDevice> devices_;
};

}  // namespace

Partition BestPartition(const StageCosts& costs, absl::Span<const StageDevice> devices, int64_t blocks) {
  const Cuts cuts(costs, devices);
  Partition none;
  none.fullest = kImpossible;
  if (cuts.devices() == 0) return none;
  double fullest = kImpossible;
  int stages = 0;
  for (const int count : cuts.StageCounts()) {
    const double least = cuts.Fullest(count, blocks, fullest);
    if (least < fullest) stages = count;
    fullest = least;
  }
  return cuts.Even(stages, blocks, fullest);
}

int64_t MostBlocks(const StageCosts& costs, absl::Span<const StageDevice> devices, int64_t wanted) {
  // Each block is on some device in full.
  double budgets = 0;
  for (const StageDevice& device : devices) budgets += static_cast<double>(std::max<int64_t>(0, device.budget));
  if (const int64_t block = costs.of(0, costs.items - 1).block_bytes; block > 0 && budgets / static_cast<double>(block) < static_cast<double>(wanted)) {
    wanted = static_cast<int64_t>(budgets / static_cast<double>(block));
  }
  const Cuts cuts(costs, devices);
  int64_t most = -1;
  for (const int count : cuts.StageCounts()) {
    if (most == wanted || !cuts.Holds(count, most + 1, 1)) continue;
    most += 1;
    if (cuts.Holds(count, wanted, 1)) return wanted;
    for (int64_t bad = wanted; bad - most > 1;) {
      const int64_t middle = most + (bad - most) / 2;
      (cuts.Holds(count, middle, 1) ? most : bad) = middle;
    }
  }
  return most;
}

}  // namespace causeway
