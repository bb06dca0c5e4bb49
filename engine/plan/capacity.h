// What a plan serves: how many sequences its KV cache holds, and how many it is worth running at once.
#ifndef CAUSEWAY_ENGINE_PLAN_CAPACITY_H_
#define CAUSEWAY_ENGINE_PLAN_CAPACITY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/plan/plan.h"

namespace causeway {

struct SequencesOf {
  int64_t tokens = 0;  // of each
  int64_t count = 0;   // at once; they share no block
};

struct Capacity {
  std::vector<SequencesOf> sequences;  // of max_model_len, then of common lengths below it
  // The max_num_seqs worth setting: the plan's seqs_fitting, and no more than with which computing takes as long as
  // reading the weights does, where the catalogue has the devices: beyond, each makes all others slower. A plan with it
  // has room for as many. 0: none does.
  int64_t seqs_worth = 0;
  std::string reason;        // what bounds it
  bool speed_known = false;  // else it is what has room alone
};
inline constexpr int64_t kUsualTokens = 2048;

// Of a plan with a KV cache.
Capacity CapacityOf(const Plan& plan);

// Sentences for people: the KV cache with what it holds, and what is worth setting.
std::vector<std::string> CapacityRemarks(const Plan& plan);

// Operations of products with weights that a token takes, the head's included.
double FlopsPerToken(const ModelSpec& spec);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_CAPACITY_H_
