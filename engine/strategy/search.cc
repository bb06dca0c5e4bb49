#include "engine/strategy/search.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/base/pipeline.h"
#include "engine/base/status.h"
#include "engine/plan/ranks.h"

namespace causeway {
namespace {

std::vector<int> Divisors(int n) {
  std::vector<int> divisors;
  for (int d = 1; d <= n; ++d) {
    if (n % d == 0) divisors.push_back(d);
  }
  return divisors;
}

// Of one stage any number but one only reads the weights more often. Beyond twice the stages steps only get smaller.
std::vector<int> MicroBatches(int pp, int64_t running) {
  std::vector<int> numbers;
  for (const int n : {1, pp, 2 * pp}) {
    const int most = static_cast<int>(std::min<int64_t>(n, running));
    if ((pp > 1 || n == 1) && (numbers.empty() || numbers.back() < most)) numbers.push_back(most);
  }
  return numbers;
}

class Searcher {
 public:
  Searcher(ReplicaModel& model, const Fleet& fleet, const Workload& workload)
      : model_(model), fleet_(fleet), workload_(workload) {
    for (const FleetDevice& device : fleet.devices) {
      size_t kind = 0;
      while (kind < kinds_.size() && !kinds_[kind]->Like(device)) ++kind;
      if (kind == kinds_.size()) kinds_.push_back(&device);
      kind_of_.push_back(static_cast<int>(kind));
    }
  }

  Search Run() {
    const int devices = static_cast<int>(fleet_.devices.size());
    for (const int64_t concurrency : workload_.concurrency) {
      for (const int tp : Divisors(devices)) {
        const std::string no_tp = std::string(model_.OneOf(tp).status().message());
        for (const int pp : Divisors(devices / tp)) {
          const Strategy strategy{.dp = devices / (tp * pp), .pp = pp, .tp = tp, .micro_batches = 0};
          const std::string wrong = !no_tp.empty() ? no_tp : Impossible(strategy, concurrency);
          if (!wrong.empty()) {
            Drop({.strategy = strategy, .concurrency = concurrency}, wrong);
            continue;
          }
          // Where all of it has room nothing gains from leaving.
          if (!TryStages(strategy, concurrency, /*offload=*/false) && CanOffload())
            TryStages(strategy, concurrency, /*offload=*/true);
        }
      }
    }
    Rank();
    return std::move(search_);
  }

 private:
  void Drop(Candidate candidate, std::string why) {
    candidate.dropped = std::move(why);
    search_.dropped.push_back(std::move(candidate));
  }

  std::string Impossible(const Strategy& s, int64_t concurrency) const {
    if (const int layers = UnitsOf(model_.spec()).layers; s.pp > layers)
      return absl::StrCat(s.pp, " stages for ", layers, " layers");
    if (s.dp > concurrency)
      return absl::StrCat(s.dp, " replicas for ", concurrency, concurrency == 1 ? " request" : " requests");
    for (size_t first = 0; first < fleet_.devices.size(); first += s.tp) {
      for (size_t i = first + 1; i < first + s.tp; ++i) {
        if (kind_of_[i] == kind_of_[first]) continue;
        return absl::StrCat("tensor parallelism needs equal devices: ", fleet_.devices[first].device.name, " and ",
                            fleet_.devices[i].device.name, " differ");
      }
    }
    return "";
  }

  ReplicaShape Shape(const Strategy& s, int replica, int64_t concurrency) const {
    const int64_t share = concurrency / s.dp + (replica < concurrency % s.dp ? 1 : 0);
    return {.first_device = replica * s.pp * s.tp, .pp = s.pp, .tp = s.tp, .offload = s.offload, .requests = share};
  }

  // Equal devices in equal places make equal replicas.
  std::vector<int> Signature(const ReplicaShape& shape) const {
    std::vector<int> key = {static_cast<int>(shape.requests)};
    const FleetDevice& first = fleet_.devices[shape.first_device];
    for (int i = shape.first_device; i < shape.first_device + shape.pp * shape.tp; ++i) {
      const FleetDevice& device = fleet_.devices[i];
      key.insert(key.end(), {kind_of_[i], device.node - first.node,
                             device.nvlink_group < 0 ? -1 : device.nvlink_group - first.nvlink_group});
    }
    return key;
  }

  bool CanOffload() const {
    return std::any_of(fleet_.devices.begin(), fleet_.devices.end(),
                       [](const FleetDevice& d) { return d.cpu_bytes > 0 || d.disk_bytes_per_second > 0; });
  }

  // Whether all replicas fit, with room for all requests at once that they may run.
  bool TryStages(Strategy strategy, int64_t concurrency, bool offload) {
    strategy.offload = offload;
    std::map<std::vector<int>, ReplicaFit> fits;
    int64_t most_running = 0;
    bool all_run = true;
    for (int r = 0; r < strategy.dp; ++r) {
      const ReplicaShape shape = Shape(strategy, r, concurrency);
      const auto [found, added] = fits.try_emplace(Signature(shape));
      if (added) found->second = model_.Fit(shape);
      if (!found->second.misfit.empty()) {
        Drop({.strategy = strategy, .concurrency = concurrency}, found->second.misfit);
        return false;
      }
      most_running = std::max(most_running, found->second.running);
      all_run &= found->second.running == model_.OptionsFor(shape.requests).max_num_seqs;
    }
    for (const int micro_batches : MicroBatches(strategy.pp, most_running)) {
      strategy.micro_batches = micro_batches;
      Candidate candidate = Timed(strategy, concurrency, fits);
      if (offload && candidate.offloaded_bytes == 0) return all_run;  // the same as without
      if (candidate.ttft_seconds > workload_.ttft_seconds_max) {
        Drop(std::move(candidate), absl::StrFormat("TTFT %.0f ms is over %.0f ms", 1e3 * candidate.ttft_seconds,
                                                   1e3 * workload_.ttft_seconds_max));
      } else if (candidate.tpot_seconds > workload_.tpot_seconds_max) {
        Drop(std::move(candidate), absl::StrFormat("TPOT %.1f ms is over %.1f ms", 1e3 * candidate.tpot_seconds,
                                                   1e3 * workload_.tpot_seconds_max));
      } else {
        search_.ranked.push_back(std::move(candidate));
      }
    }
    return all_run;
  }

  Candidate Timed(const Strategy& strategy, int64_t concurrency, const std::map<std::vector<int>, ReplicaFit>& fits) {
    Candidate candidate{.strategy = strategy, .concurrency = concurrency, .fits = true};
    std::map<std::vector<int>, ReplicaTimes> timed;
    double fullest = -1;
    for (int r = 0; r < strategy.dp; ++r) {
      const ReplicaShape shape = Shape(strategy, r, concurrency);
      const std::vector<int> signature = Signature(shape);
      const ReplicaFit& fit = fits.at(signature);
      const auto [found, added] = timed.try_emplace(signature);
      if (added)
        found->second =
            model_.Time(shape, fit, static_cast<int>(std::min<int64_t>(strategy.micro_batches, fit.running)));
      const ReplicaTimes& times = found->second;
      candidate.running += fit.running;
      candidate.running_each.push_back(fit.running);
      candidate.ttft_seconds = std::max(candidate.ttft_seconds, times.ttft_seconds);
      candidate.tpot_seconds = std::max(candidate.tpot_seconds, times.tpot_seconds);
      candidate.bubble = std::max(candidate.bubble, times.bubble);
      candidate.tokens_per_second += times.tokens_per_second;
      candidate.replicas.push_back(times.stages);
      for (StageMemory& stage : candidate.replicas.back()) {
        stage.device += shape.first_device - found->second.stages.front().device;
        candidate.offloaded_bytes += stage.offloaded.bytes * strategy.tp;
        candidate.on_disk_bytes += stage.offloaded.on_disk * strategy.tp;
        const double taken = 1 - static_cast<double>(stage.free()) / static_cast<double>(stage.budget);
        if (taken > fullest) fullest = taken, candidate.fullest = stage;
      }
    }
    candidate.tokens_per_second_device = candidate.tokens_per_second / static_cast<double>(fleet_.devices.size());
    candidate.tokens_per_second_user =
        1 / (workload_.output_tokens > 1 ? candidate.tpot_seconds : candidate.ttft_seconds);
    candidate.not_served = NotServed(candidate);
    return candidate;
  }

  // What the engine refuses or does otherwise, by its own rules.
  std::string NotServed(const Candidate& candidate) const {
    const Strategy& s = candidate.strategy;
    std::vector<std::string> lacks;
    const DeviceKind kind = fleet_.devices.front().device.kind;
    if (std::string missing = MissingForGroups(kind, s.tp); !missing.empty()) lacks.push_back(missing);
    const int made = static_cast<int>(std::min<int64_t>(
        MicroBatchesOf(s.pp, s.pp), *std::max_element(candidate.running_each.begin(), candidate.running_each.end())));
    if (s.micro_batches != made)
      lacks.push_back(absl::StrCat(s.micro_batches, s.micro_batches == 1 ? " micro-batch" : " micro-batches",
                                   " (it makes ", made, ")"));
    const int last = s.pp * s.tp - 1;
    for (int r = 0; r < s.dp; ++r) {
      if (fleet_.devices[r * (last + 1)].node == fleet_.devices[r * (last + 1) + last].node) continue;
      lacks.push_back("a pipeline over several nodes");
      break;
    }
    return absl::StrJoin(lacks, ", ");
  }

  void Rank() {
    std::vector<Candidate>& ranked = search_.ranked;
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const Candidate& a, const Candidate& b) { return a.tokens_per_second > b.tokens_per_second; });
    MarkPareto(ranked);
    for (size_t i = 0; i < ranked.size() && search_.best_served < 0; ++i) {
      if (ranked[i].not_served.empty()) search_.best_served = static_cast<int>(i);
    }
  }

  ReplicaModel& model_;
  const Fleet& fleet_;
  const Workload& workload_;
  std::vector<const FleetDevice*> kinds_;
  std::vector<int> kind_of_;  // by device
  Search search_;
};

absl::Status CheckWorkload(const ModelSpec& spec, const PlanOptions& options, const Workload& workload) {
  const int64_t tokens = workload.prompt_tokens + workload.output_tokens;
  if (options.max_model_len > spec.context_max) {
    return absl::InvalidArgumentError(absl::StrCat("max_model_len ", options.max_model_len,
                                                   " is longer than the model's context, ", spec.context_max));
  }
  const int64_t most = options.max_model_len > 0 ? options.max_model_len : spec.context_max;
  if (workload.prompt_tokens < 1 || workload.output_tokens < 1)
    return absl::InvalidArgumentError("expected at least one token of prompt and of output");
  if (tokens > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("requests of ", tokens, " tokens, prompt and output together, are longer than ",
                     options.max_model_len > 0 ? "max_model_len, " : "the model's context, ", most));
  }
  if (workload.concurrency.empty()) return absl::InvalidArgumentError("expected a concurrency");
  return absl::OkStatus();
}

// What was measured was measured format by format; assumptions are made for dtypes.
absl::Status CheckSpeeds(const ModelWork& work, const Fleet& fleet) {
  for (const FleetDevice& device : fleet.devices) {
    for (const std::string& format : {work.format, work.head_format}) {
      if (device.measured ? device.speed.linears.contains(format)
                          : device.speed.Linears(format, work.dtype, work.total_bytes) != nullptr)
        continue;
      return absl::InvalidArgumentError(absl::StrCat("the speed of ", device.device.name, " (", device.device.model,
                                                     ") in ", format,
                                                     " was not measured; measure it with causewayd plan --calibrate"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string StrategyName(const Strategy& s) {
  std::vector<std::string> factors;
  if (s.dp > 1) factors.push_back(absl::StrCat("DP ", s.dp));
  if (s.pp > 1) factors.push_back(absl::StrCat("PP ", s.pp));
  if (s.tp > 1) factors.push_back(absl::StrCat("TP ", s.tp));
  std::string name = factors.empty() ? "one device" : absl::StrJoin(factors, " x ");
  if (s.pp > 1 && s.micro_batches > 0)
    absl::StrAppend(&name, ", ", s.micro_batches, s.micro_batches == 1 ? " micro-batch" : " micro-batches");
  return s.offload ? name + ", offload" : name;
}

RankPlace PlaceOfRank(int rank, const Strategy& s) {
  return {rank / (s.tp * s.pp), rank % (s.tp * s.pp) / s.tp, rank % s.tp};
}

void MarkPareto(std::vector<Candidate>& candidates) {
  std::vector<Candidate*> order;
  for (Candidate& candidate : candidates) order.push_back(&candidate);
  std::stable_sort(order.begin(), order.end(), [](const Candidate* a, const Candidate* b) {
    return std::tie(a->tokens_per_second_device, a->tokens_per_second_user) >
           std::tie(b->tokens_per_second_device, b->tokens_per_second_user);
  });
  double device = 0, user = -1;  // of the last one marked
  for (Candidate* candidate : order) {
    candidate->pareto = candidate->tokens_per_second_user > user ||
                        (candidate->tokens_per_second_user == user && candidate->tokens_per_second_device == device);
    if (candidate->pareto) user = candidate->tokens_per_second_user, device = candidate->tokens_per_second_device;
  }
}

absl::StatusOr<Search> SearchStrategies(const ModelSpec& spec, const Fleet& fleet, const PlanOptions& options,
                                        const Workload& workload) {
  CAUSEWAY_RETURN_IF_ERROR(CheckWorkload(spec, options, workload));
  ReplicaModel model(spec, fleet, options, workload);
  CAUSEWAY_RETURN_IF_ERROR(CheckSpeeds(model.work(), fleet));
  return Searcher(model, fleet, workload).Run();
}

}  // namespace causeway
