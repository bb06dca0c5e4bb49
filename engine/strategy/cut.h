// Consecutive units cut into stages.
#ifndef CAUSEWAY_ENGINE_STRATEGY_CUT_H_
#define CAUSEWAY_ENGINE_STRATEGY_CUT_H_

#include <functional>
#include <limits>
#include <vector>

namespace causeway {

inline constexpr double kImpossible = std::numeric_limits<double>::infinity();

// What a stage of units first .. last has too much of when it is largest: seconds, a part of a budget. kImpossible: it
// may not be.
using StageLoad = std::function<double(int stage, int first, int last)>;

// The first unit of each of exactly `stages` stages, none of them empty, whose largest load is least; where a choice
// remains, of smaller sum of squares. Empty: there is no such cut.
std::vector<int> BestCut(int units, int stages, const StageLoad& load);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_CUT_H_
