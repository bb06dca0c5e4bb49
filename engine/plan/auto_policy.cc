#include "engine/plan/auto_policy.h"

#include <algorithm>
#include <limits>

namespace causeway {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();

double Fraction(const StageCosts::Cost& cost, const StageDevice& device, int64_t blocks) {
  if (device.budget <= 0) return kImpossible;
  return static_cast<double>(cost.bytes(blocks) + device.reserve) / static_cast<double>(device.budget);
}

// Blocks that fit beside the run's weights; -1 when those alone do not fit.
int64_t Capacity(const StageCosts::Cost& cost, const StageDevice& device, int64_t wanted) {
  const int64_t left = device.budget - device.reserve - cost.fixed_bytes;
  if (device.budget <= 0 || left < 0) return -1;
  return cost.block_bytes == 0 ? wanted : std::min(wanted, left / cost.block_bytes);
}

}  // namespace

Partition BestPartition(const StageCosts& costs, absl::Span<const StageDevice> devices, int64_t blocks) {
  const int items = costs.items();
  const int count = static_cast<int>(devices.size());
  // best[d][n]: the least fullest fraction with which the first d devices hold the first n items.
  std::vector<std::vector<double>> best(count + 1, std::vector<double>(items + 1, kImpossible));
  best[0][0] = 0;
  for (int d = 0; d < count; ++d) {
    for (int n = 0; n <= items; ++n) {
      double least = best[d][n];  // device d stays empty
      for (int first = n - 1; first >= 0; --first) {
        const StageCosts::Cost& cost = costs.at(first, n - 1);
        const double fraction = Fraction(cost, devices[d], blocks);
        if (fraction >= least) break;  // longer runs cost no less
        if (cost.allowed) least = std::min(least, std::max(best[d][first], fraction));
      }
      best[d + 1][n] = least;
    }
  }
  Partition result;
  result.fullest = best[count][items];
  if (result.fullest == kImpossible) return result;

  // Second pass: with no stage above that, the least sum of squares. (One pass over pairs would not be exact: a prefix that
  // is fuller than it need be, but below the final maximum, may have the smaller sum.)
  std::vector<std::vector<double>> spread(count + 1, std::vector<double>(items + 1, kImpossible));
  std::vector<std::vector<int>> start(count + 1, std::vector<int>(items + 1, 0));  // first item of device d - 1's stage
  spread[0][0] = 0;
  for (int d = 0; d < count; ++d) {
    for (int n = 0; n <= items; ++n) {
      double least = spread[d][n];
      int from = n;
      for (int first = n - 1; first >= 0; --first) {
        const StageCosts::Cost& cost = costs.at(first, n - 1);
        const double fraction = Fraction(cost, devices[d], blocks);
        if (fraction > result.fullest || fraction * fraction >= least) break;
        const double sum = spread[d][first] + fraction * fraction;
        if (cost.allowed && sum < least) {
          least = sum;
          from = first;
        }
      }
      spread[d + 1][n] = least;
      start[d + 1][n] = from;
    }
  }
  result.spread = spread[count][items];
  result.device_of_item.resize(items);
  for (int d = count, n = items; d > 0; --d) {
    const int from = start[d][n];
    std::fill(result.device_of_item.begin() + from, result.device_of_item.begin() + n, d - 1);
    n = from;
  }
  return result;
}

int64_t MostBlocks(const StageCosts& costs, absl::Span<const StageDevice> devices, int64_t wanted) {
  const int items = costs.items();
  std::vector<int64_t> most(items + 1, -1);  // for the first n items on the devices so far
  most[0] = wanted;
  for (const StageDevice& device : devices) {
    // From the end, so that most[first] still leaves this device out.
    for (int n = items; n > 0; --n) {
      for (int first = n - 1; first >= 0; --first) {
        const StageCosts::Cost& cost = costs.at(first, n - 1);
        const int64_t capacity = Capacity(cost, device, wanted);
        if (capacity <= most[n]) break;
        if (cost.allowed) most[n] = std::max(most[n], std::min(most[first], capacity));
      }
    }
  }
  return most[items];
}

}  // namespace causeway
