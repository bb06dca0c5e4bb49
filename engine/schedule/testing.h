// A scheduler whose steps a fake device runs, for tests that follow it step by step.
#ifndef CAUSEWAY_ENGINE_SCHEDULE_TESTING_H_
#define CAUSEWAY_ENGINE_SCHEDULE_TESTING_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/base/clock.h"
#include "engine/schedule/fake_device.h"
#include "engine/schedule/scheduler.h"

namespace causeway {

inline SchedulerOptions Options() {
  SchedulerOptions options;
  options.num_blocks = 100;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 32;
  options.max_model_len = 200;
  return options;
}

inline SequenceRequest Request(uint64_t id, int64_t prompt, int64_t max_tokens = 4) {
  SequenceRequest request;
  request.id = id;
  request.prompt.resize(prompt);
  // The prompt is different for each id, so that nothing is shared by accident.
  for (int64_t i = 0; i < prompt; ++i) request.prompt[i] = static_cast<int32_t>(id * 1000 + i);
  request.stop.max_tokens = max_tokens;
  return request;
}

// A scheduler with a fake device.
struct Rig {
  explicit Rig(SchedulerOptions o) : options(o), scheduler(o, &clock), device(o) {}

  void Add(const SequenceRequest& request) {
    device.Add(request);
    const absl::Status status = scheduler.Add(request);
    EXPECT_TRUE(status.ok()) << status;
  }
  // Plans and starts a step. Returns "id:rows" for each of its sequences, or "none".
  std::string Step(bool fail = false) {
    const std::optional<StepPlan> plan = scheduler.Next();
    if (!plan.has_value()) return "none";
    std::string text;
    for (const StepSequence& s : plan->sequences) {
      text += (text.empty() ? "" : " ") + std::to_string(s.sequence) + ":" + std::to_string(s.tokens.size());
    }
    in_flight.push_back(device.Run(*plan, fail));
    last = *plan;
    return text;
  }
  std::vector<SequenceEvent> Apply() {
    const StepResult result = in_flight.front();
    in_flight.pop_front();
    return scheduler.Apply(result);
  }
  // Runs to the end. Returns the events of each step in order.
  std::vector<SequenceEvent> Drain() {
    std::vector<SequenceEvent> events;
    while (!scheduler.idle() || !in_flight.empty()) {
      while (Step() != "none") {
      }
      if (in_flight.empty()) {
        ADD_FAILURE() << "stuck";
        break;
      }
      for (SequenceEvent& e : Apply()) events.push_back(std::move(e));
    }
    return events;
  }

  const SchedulerOptions options;
  FakeClock clock;
  Scheduler scheduler;
  FakeDevice device;
  std::deque<StepResult> in_flight;
  StepPlan last;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SCHEDULE_TESTING_H_
