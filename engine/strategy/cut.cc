#include "engine/strategy/cut.h"

#include <algorithm>
#include <utility>

namespace causeway {

std::vector<int> BestCut(int units, int stages, const StageLoad& load) {
  using Cost = std::pair<double, double>;  // the largest load, and the sum of squares
  const Cost none(kImpossible, kImpossible);
  std::vector<Cost> best(units + 1, none);  // of the stages so far over the first n units
  best[0] = {-kImpossible, 0};
  std::vector<std::vector<int>> from(stages, std::vector<int>(units + 1, -1));
  for (int s = 0; s < stages; ++s) {
    std::vector<Cost> next(units + 1, none);
    // The stages before and after have at least a unit each, and the last one has all that are left.
    for (int n = s + 1 == stages ? units : s + 1; n <= units - (stages - 1 - s); ++n) {
      for (int first = n - 1; first >= s; --first) {
        if (best[first] == none) continue;
        const double here = load(s, first, n - 1);
        if (here == kImpossible) continue;
        const Cost cost(std::max(best[first].first, here), best[first].second + here * here);
        if (cost < next[n]) next[n] = cost, from[s][n] = first;
      }
    }
    best = std::move(next);
  }
  if (best[units] == none) return {};
  std::vector<int> firsts(stages);
  for (int s = stages - 1, n = units; s >= 0; --s) n = firsts[s] = from[s][n];
  return firsts;
}

}  // namespace causeway
