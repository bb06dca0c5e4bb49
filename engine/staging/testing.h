// For tests of this folder: random models whose weights pass through a staging buffer, and steps that use them.
#ifndef CAUSEWAY_ENGINE_STAGING_TESTING_H_
#define CAUSEWAY_ENGINE_STAGING_TESTING_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "engine/staging/staging_ring.h"

namespace causeway::testing {

using Random = std::mt19937_64;

// A number from `least` to `most`, both included.
inline int64_t Between(Random& random, int64_t least, int64_t most) {
  return least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 1));
}
inline bool OneIn(Random& random, int64_t n) { return Between(random, 1, n) == 1; }

struct StagedModel {
  struct Weight {
    int64_t bytes = 0;
    bool in_cpu_memory = false, in_order = true;
  };
  // Units are in the order of use: each is one weight in order, or the experts of a layer, each of which has two
  // weights.
  struct Unit {
    int in_order = -1;
    std::vector<std::vector<int>> experts;
  };
  std::vector<Weight> weights;  // by id
  std::vector<Unit> units;
  StagingRing::CpuRows cpu_rows;

  // The least that a plan gives: room for two neighbours in order (the first one follows the last one), and for two
  // experts.
  int64_t StagingBytes() const {
    std::vector<int64_t> in_order;
    int64_t bytes = 0;
    for (const Unit& unit : units) {
      if (unit.in_order >= 0) in_order.push_back(weights[unit.in_order].bytes);
      for (const std::vector<int>& expert : unit.experts) {
        bytes = std::max(bytes, 2 * (weights[expert[0]].bytes + weights[expert[1]].bytes));
      }
    }
    for (size_t i = 0; i < in_order.size(); ++i) {
      bytes = std::max(bytes, in_order[i] + (in_order.size() > 1 ? in_order[(i + 1) % in_order.size()] : 0));
    }
    return bytes;
  }

  bool OnCpu(int id, int64_t rows) const {
    return weights[id].in_cpu_memory && rows <= (weights[id].in_order ? cpu_rows.in_order : cpu_rows.experts);
  }
};

inline StagedModel MakeStagedModel(Random& random) {
  StagedModel model;
  const int64_t layers = Between(random, 1, 5), linears = Between(random, 0, 4), experts = Between(random, 0, 4);
  const int64_t bytes_max = OneIn(random, 3) ? 1 : 24, of_tiers = Between(random, 1, 3);
  const auto add = [&](bool in_order) {
    const bool in_cpu_memory = of_tiers == 1 || (of_tiers == 2 && OneIn(random, 2));
    model.weights.push_back({Between(random, 1, bytes_max), in_cpu_memory, in_order});
    return static_cast<int>(model.weights.size()) - 1;
  };
  model.cpu_rows = {.experts = Between(random, 0, 3), .in_order = Between(random, 0, 3)};
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (int64_t i = 0; i < linears; ++i) model.units.push_back({.in_order = add(true)});
    if (experts == 0) continue;
    std::vector<std::vector<int>>& of_layer = model.units.emplace_back().experts;
    for (int64_t i = 0; i < experts; ++i) {
      const int up = add(false);
      of_layer.push_back({up, add(false)});
    }
  }
  if (model.units.empty() || OneIn(random, 2)) model.units.push_back({.in_order = add(true)});  // a head
  return model;
}

inline void AddTo(StagingRing& ring, const StagedModel& model) {
  for (size_t layer = 0; layer < model.units.size(); ++layer) {
    const StagedModel::Unit& unit = model.units[layer];
    const auto of = [&](int id) { return model.weights[id]; };
    if (unit.in_order >= 0) ring.AddInOrder(of(unit.in_order).bytes, of(unit.in_order).in_cpu_memory);
    for (const std::vector<int>& expert : unit.experts) {
      for (const int id : expert) ring.AddExpert(static_cast<int>(layer), of(id).bytes, of(id).in_cpu_memory);
    }
  }
  ring.SetCpuRows(model.cpu_rows);
}

// One step of the computing thread: each action expects experts, or acquires weights, computes and releases them.
struct StagedStep {
  struct Action {
    std::vector<StagingRing::Use> expect;
    std::vector<int> compute;  // when it is empty, the action expects
  };
  int64_t rows = 1;
  std::vector<Action> actions;
};

// A careless step leaves out some weights in order, and stops before it has used all experts that it expected.
inline StagedStep MakeStagedStep(const StagedModel& model, int64_t rows, bool careless, Random& random) {
  StagedStep step{.rows = rows};
  for (const StagedModel::Unit& unit : model.units) {
    if (careless && OneIn(random, 8)) continue;
    if (unit.in_order >= 0) {
      step.actions.push_back({.compute = {unit.in_order}});
      continue;
    }
    StagedStep::Action expect;
    std::vector<StagedStep::Action> computed;
    bool stopped = false;
    for (const std::vector<int>& expert : unit.experts) {
      const int64_t rows_of_expert = Between(random, 0, rows);
      if (rows_of_expert == 0) continue;
      for (const int id : expert) expect.expect.push_back({id, rows_of_expert});
      stopped |= careless && OneIn(random, 8);
      if (!stopped) computed.push_back({.compute = expert});
    }
    step.actions.push_back(expect);
    step.actions.insert(step.actions.end(), computed.begin(), computed.end());
  }
  return step;
}

}  // namespace causeway::testing

#endif  // CAUSEWAY_ENGINE_STAGING_TESTING_H_
