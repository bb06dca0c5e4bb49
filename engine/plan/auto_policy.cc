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

// What `stages` stages hand over lies on each of them, so every number of stages is a search of its own. Given that
// number and a bound on the fullest device, a search is greedy: of prefixes that so many stages can hold, the longest
// leaves least to do.
class Cuts {
 public:
  Cuts(const StageCosts& costs, absl::Span<const StageDevice> devices) : costs_(costs) {
    for (int i = 0; i < costs.items; ++i) idle_.push_back(!costs.of(i, i).computes);
    for (size_t i = 0; i < devices.size(); ++i) {
      if (devices[i].budget <= 0) continue;
      const auto like = [&](int other) {
        return devices[other].budget == devices[i].budget && devices[other].reserve == devices[i].reserve;
      };
      const int kind = static_cast<int>(std::find_if(live_.begin(), live_.end(), like) - live_.begin());
      live_.push_back(static_cast<int>(i));
      devices_.push_back(devices[i]);
      kind_.push_back(kind);
    }
  }

  int devices() const { return static_cast<int>(devices_.size()); }

  // How many stages to try. Where nothing is handed over, a search for as many as there are devices finds all of fewer;
  // else all, in an order of no meaning: few are then better than all before them, and only these take more than a
  // look.
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
    Reach reach(*this, stages, blocks, limit);
    for (int d = 0; d < devices(); ++d) reach.Add(d);
    return *std::max_element(reach.ends.begin(), reach.ends.end()) == costs_.items;
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
    // By devices so far and stages among them: the items that they can hold, from as many as leave no more than the
    // others can hold.
    std::vector<std::vector<Window>> windows(devices() + 1, std::vector<Window>(counted + 1));
    Reach reach(*this, stages, blocks, limit);
    std::vector<std::vector<int>> most = {reach.ends}, least = Least(stages, blocks, limit);
    for (int d = 0; d < devices(); ++d) {
      reach.Add(d);
      most.push_back(reach.ends);
    }
    for (int d = 0; d <= devices(); ++d) {
      for (int s = 0; s <= std::min(d, counted); ++s) {
        windows[d][s] = {least[d][s], std::vector<Start>(std::max(0, most[d][s] - least[d][s] + 1))};
      }
    }
    if (Start* start = windows[0][0].At(0)) start->spread = 0;
    for (int d = 0; d < devices(); ++d) {
      for (int s = 0; s <= counted; ++s) {
        Window& window = windows[d + 1][s];
        for (size_t i = 0; i < window.starts.size(); ++i) {
          const int n = window.least + static_cast<int>(i);
          Start& best = window.starts[i];
          if (const Start* empty = windows[d][s].At(n)) best = {empty->spread, n, s};
          for (int first = n - 1; first >= 0; --first) {
            const StageCost cost = costs_.of(first, n - 1);
            const double fraction = Fraction(cost, d, stages, blocks),
                         square = fraction * fraction + (cost.computes ? 0 : kLastResort);
            if (fraction > limit || (cost.computes && square >= best.spread)) break;  // longer runs cost no less
            const int before = counted > 0 && cost.computes ? s - 1 : s;
            const Start* start = before < 0 ? nullptr : windows[d][before].At(first);
            if (start != nullptr && start->spread + square < best.spread)
              best = {start->spread + square, first, before};
          }
        }
      }
    }
    int s = 0;
    const auto spread = [&](int count) {
      const Start* whole = windows[devices()][count].At(items);
      return whole == nullptr ? kImpossible : whole->spread;
    };
    for (int other = 1; other <= counted; ++other) s = spread(other) < spread(s) ? other : s;
    Partition result;
    result.fullest = limit;
    result.spread = spread(s);
    result.device_of_item.resize(items);
    for (int d = devices() - 1, n = items; d >= 0; --d) {
      const Start start = *windows[d + 1][s].At(n);
      std::fill(result.device_of_item.begin() + start.first, result.device_of_item.begin() + n, live_[d]);
      n = start.first;
      s = start.stages;
    }
    return result;
  }

 private:
  // As many stages as devices need not be counted: 0.
  int Counted(int stages) const { return stages < devices() ? stages : 0; }

  // How devices hold items: the last one from `first` on, beside as many stages before it.
  struct Start {
    double spread = kImpossible;
    int first = 0, stages = 0;
  };
  struct Window {
    int least = 0;
    std::vector<Start> starts;  // of `least` items, of one more, ...
    Start* At(int items) {
      return items < least || items - least >= static_cast<int>(starts.size()) ? nullptr : &starts[items - least];
    }
  };

  // How many items the devices so far can hold.
  struct Reach {
    Reach(const Cuts& cuts, int stages, int64_t blocks, double limit)
        : ends(cuts.Counted(stages) + 1, 0),
          cuts(cuts),
          stages(stages),
          blocks(blocks),
          limit(limit),
          known(cuts.devices()) {}

    void Add(int d) {
      const int items = cuts.costs_.items, counted = static_cast<int>(ends.size()) - 1;
      std::vector<int>& found = known[cuts.kind_[d]];
      if (found.empty()) found.assign(items, -1);
      for (int s = std::min(counted, d + 1); s >= 0; --s) {
        const int before = counted > 0 ? s - 1 : 0, first = before < 0 ? items : ends[before];
        if (ends[s] < items && cuts.idle_[ends[s]])
          ends[s] = std::max(ends[s], cuts.IdleEnd(d, ends[s], blocks, limit));
        if (first == items) continue;
        if (found[first] < 0) found[first] = cuts.RunEnd(d, first, stages, blocks, limit);
        ends[s] = std::max(ends[s], found[first]);
      }
    }

    std::vector<int> ends;  // by stages: how many items they and what no step needs can cover

   private:
    const Cuts& cuts;
    const int stages;
    const int64_t blocks;
    const double limit;
    std::vector<std::vector<int>> known;  // by kind of device and first item: where the longest run ends
  };

  // By devices so far and stages among them: how many items they must hold, so that the devices left can hold the
  // others.
  std::vector<std::vector<int>> Least(int stages, int64_t blocks, double limit) const {
    const int counted = Counted(stages);
    std::vector<std::vector<int>> least(devices() + 1, std::vector<int>(counted + 1, costs_.items));
    for (int d = devices() - 1; d >= 0; --d) {
      for (int s = 0; s <= counted; ++s) {
        int& begin = least[d][s] = least[d + 1][s];
        if (begin > 0 && idle_[begin - 1])
          begin = std::min(begin, RunBegin(d, begin, /*idle=*/true, stages, blocks, limit));
        const int after = counted > 0 ? s + 1 : 0;
        if (after <= counted)
          begin = std::min(begin, RunBegin(d, least[d + 1][after], /*idle=*/false, stages, blocks, limit));
      }
    }
    return least;
  }

  // The first item of the longest run before `end` that a device holds within the limit; an idle one has only what no
  // step needs.
  int RunBegin(int d, int end, bool idle, int stages, int64_t blocks, double limit) const {
    int good = end, bad = -1;
    while (good - bad > 1) {
      const int middle = bad + (good - bad) / 2;
      const StageCost cost = costs_.of(middle, end - 1);
      (Fraction(cost, d, stages, blocks) <= limit && !(idle && cost.computes) ? good : bad) = middle;
    }
    return good;
  }

  // In floating point, where nothing overflows; exact up to petabytes.
  double Fraction(const StageCost& cost, int d, int stages, int64_t blocks) const {
    double bytes =
        static_cast<double>(cost.fixed_bytes) + static_cast<double>(blocks) * static_cast<double>(cost.block_bytes);
    if (cost.computes)
      bytes +=
          static_cast<double>(devices_[d].reserve + (costs_.handoff_bytes.empty() ? 0 : costs_.handoff_bytes[stages]));
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
  std::vector<bool> idle_;        // by item: no step needs it
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
  if (const int64_t block = costs.of(0, costs.items - 1).block_bytes;
      block > 0 && budgets / static_cast<double>(block) < static_cast<double>(wanted)) {
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
