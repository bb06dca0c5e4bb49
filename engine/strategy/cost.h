// Seconds that pieces of a serving step take, by the rates of what does them.
#ifndef CAUSEWAY_ENGINE_STRATEGY_COST_H_
#define CAUSEWAY_ENGINE_STRATEGY_COST_H_

#include <vector>

#include "engine/strategy/fleet.h"
#include "engine/strategy/work.h"

namespace causeway {

// What one step computes. Averages over steps: they need not be whole.
struct StepRows {
  double rows = 0;     // tokens
  double sampled = 0;  // of these, those that get logits
  double sequences = 0;
  double keys = 0;     // that a row sees
  double context = 0;  // tokens of a sequence whose keys and values are read
};

// What one of `tp` equal ranks reaches.
struct Rank {
  WorkSpeed linears, attention, head;
  double row_bytes_per_second = 0, layer_seconds = 0, sample_seconds = 0;
  int tp = 1;
  Link link;  // to the others
};

// Device `index` of the fleet as the first of `tp` ranks that each hold `weights` bytes.
Rank MakeRank(const ModelWork& work, const Fleet& fleet, int index, int tp, int64_t weights);

// Of an all-reduce by a ring: 2 (n - 1) hops, and 2 (n - 1) / n of the bytes over each rank's link.
double AllReduceSeconds(int ranks, double bytes, const Link& link);
// From a device to another.
double TransferSeconds(double bytes, const Link& link);

// Bytes of weights of a unit that a step reads.
double ReadBytes(const UnitWork& unit, double rows);
double UnitSeconds(const ModelWork& work, const UnitWork& unit, const StepRows& step, const Rank& rank);

// Of the whole model on one device.
double StepSeconds(const ModelWork& work, const StepRows& step, const Fleet& fleet, int index);

// Stages that follow one another, and what each takes for a step.
struct StageSeconds {
  std::vector<double> stages;
  double turns = 1;  // FleetDevice::turns of each
  double hand_over =
      0;  // from each to the next, the last to the first: a step waits, while stages may have others to do

  // Of one step that nothing else is in the way of.
  double Sum() const;
  // From one step to the next, when all are busy: the slowest stage, or where stages take turns, the processor that
  // does all of them and changes over between them.
  double Pace() const;
};
// The time in which each of `micro_batches` equal parts of the running sequences goes once through the stages: no part
// is in two stages at once. Steps follow one another, so that the pipeline stays filled.
double RoundSeconds(const StageSeconds& seconds, int micro_batches);
// `chunks` through an empty pipeline until the last is out: (S - 1) of S - 1 + chunks turns are filling and draining,
// the bubble.
double FillAndDrainSeconds(const StageSeconds& seconds, double chunks);
// The share of a round in which the mean stage waits.
double BubbleShare(const StageSeconds& seconds, int micro_batches);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_COST_H_
