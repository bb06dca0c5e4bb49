#include "engine/strategy/replica.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/architecture/shard.h"
#include "engine/base/limits.h"
#include "engine/base/pipeline.h"
#include "engine/plan/memory.h"
#include "engine/strategy/cut.h"

namespace causeway {
namespace {

// The steps that a cycle has: every running request is prefilled once and generates its tokens.
struct Steps {
  StepRows prefill;                              // prompts together, as far as a step holds them; or a chunk of one
  StepRows alone;                                // one prompt, or a chunk of it
  StepRows decode;                               // a micro-batch
  double chunks = 1, prefills = 0, decodes = 0;  // of a prompt; of a cycle
};

Steps MakeSteps(const Workload& workload, int64_t step_tokens_max, int64_t running, int stages, int micro_batches) {
  const double prompt = static_cast<double>(workload.prompt_tokens),
               output = static_cast<double>(workload.output_tokens);
  // As many prompts wait as a step has room for. A pipeline takes them in more steps than one.
  const int64_t waiting = std::clamp<int64_t>(step_tokens_max / workload.prompt_tokens, 1, running),
                step_tokens = PromptRows(waiting * workload.prompt_tokens, step_tokens_max, stages);
  const double together =
      std::clamp<double>(static_cast<double>(step_tokens / workload.prompt_tokens), 1, static_cast<double>(running));
  Steps steps;
  steps.chunks = static_cast<double>((workload.prompt_tokens + step_tokens - 1) / step_tokens);
  const double rows = prompt / steps.chunks;
  steps.alone = {.rows = rows,
                 .sampled = 1 / steps.chunks,
                 .sequences = 1,
                 .keys = (prompt + 1) / 2,
                 .context = (prompt + rows) / 2};
  steps.prefill = steps.alone;
  steps.prefill.rows *= together, steps.prefill.sampled *= together, steps.prefill.sequences *= together;
  const double batch = static_cast<double>(running) / micro_batches, context = prompt + output / 2;
  steps.decode = {.rows = batch, .sampled = batch, .sequences = batch, .keys = context, .context = context};
  steps.prefills = static_cast<double>(running) / together * steps.chunks;
  steps.decodes = micro_batches * (output - 1);
  return steps;
}

// Seconds of any run of units as a stage.
class StageTimer {
 public:
  // Of a stage that is not the first, `arrival` is the link that hidden states come over.
  StageTimer(const ModelWork& work, const Rank& rank, const FleetDevice& device, const Link* arrival,
             const StepRows& step)
      : device_(device),
        fixed_seconds_(device.speed.step_seconds),
        arrival_seconds_(
            arrival == nullptr ? 0 : TransferSeconds(step.rows * static_cast<double>(work.hidden_row_bytes), *arrival)),
        sums_(1, 0) {
    for (const UnitWork& unit : work.units) {
      sums_.push_back(sums_.back() + UnitSeconds(work, unit, step, rank));
      if (unit.experts > 0)
        experts_share_ =
            ExpectedExperts(unit.experts, unit.experts_per_token, step.rows) / static_cast<double>(unit.experts);
    }
  }
  double Seconds(int first, int last, const Offloaded& offloaded) const {
    const double computing = sums_[last + 1] - sums_[first] + fixed_seconds_ + arrival_seconds_;
    const StreamSeconds streaming = SecondsToStream(offloaded, experts_share_, device_);
    return std::max(computing, streaming.hidden) + streaming.waited_for;
  }

 private:
  const FleetDevice& device_;
  const double fixed_seconds_, arrival_seconds_;
  std::vector<double> sums_;  // over the units before
  double experts_share_ = 0;
};

struct StageTimers {
  StageTimer prefill, alone, decode;
};

}  // namespace

ReplicaModel::ReplicaModel(const ModelSpec& spec, const Fleet& fleet, const PlanOptions& options,
                           const Workload& workload)
    : spec_(spec),
      fleet_(fleet),
      options_(options),
      workload_(workload),
      units_(UnitsOf(spec)),
      small_weights_(SmallWeightBytes(spec)) {
  OneOf(1).IgnoreError();
  const int64_t tokens = workload.prompt_tokens + workload.output_tokens;
  blocks_each_ = BlocksFor(tokens);
  blocks_least_ = std::max(blocks_each_, BlocksFor(options.max_model_len));
}

HeldPieces RankModel::Pieces(UnitRange units) const {
  const bool all = units.first == 0 && units.last == UnitsOf(spec).head();
  return PiecesWithin(pieces_.Runs(/*head_shares=*/all && spec.tied_head), units);
}

absl::StatusOr<const RankModel*> ReplicaModel::OneOf(int tp) {
  const auto [found, added] = ranks_.try_emplace(tp);
  absl::StatusOr<std::unique_ptr<RankModel>>& rank = found->second;
  if (added) {
    absl::StatusOr<ModelSpec> share = Shard(spec_, {.rank = 0, .size = tp});
    if (share.ok()) {
      rank = std::make_unique<RankModel>(*std::move(share), options_);
    } else {
      rank = share.status();
    }
  }
  if (!rank.ok()) return rank.status();
  return rank->get();
}

PlanOptions ReplicaModel::OptionsFor(int64_t requests) const {
  PlanOptions options = options_;
  if (options.max_model_len == 0) options.max_model_len = workload_.prompt_tokens + workload_.output_tokens;
  options.max_num_seqs = std::min({requests, options.max_num_batched_tokens, workload_.running_max});
  return options;
}

const std::vector<StageBytes>& ReplicaModel::Bytes(const ReplicaShape& shape, DeviceKind kind) {
  std::vector<StageBytes>& bytes = bytes_[{shape.tp, shape.requests}];
  if (!bytes.empty()) return bytes;
  const RankModel& rank = **OneOf(shape.tp);
  const PlanOptions options = OptionsFor(shape.requests);
  const int units = units_.count();
  std::vector<int64_t> activations;
  for (const LayerSpec& layer : rank.spec.layers)
    activations.push_back(LayerActivationBytes(rank.spec, layer, options, kind));
  bytes.resize(static_cast<size_t>(units) * units);
  for (int first = 0; first < units; ++first) {
    StageShape held;
    int64_t weights = 0, block = 0;
    for (int last = first; last < units; ++last) {
      held.embeddings |= last == Units::kEmbeddings;
      held.norm |= last == units_.norm();
      held.head |= last == units_.head();
      const UnitWork& unit = rank.work.units[last];
      if (unit.kv_bytes > 0) {
        held.layer_bytes = std::max(held.layer_bytes, activations[Units::LayerOf(last)]);
        block += LayerKvBytesPerBlock(rank.spec, options);
      }
      weights += unit.bytes + (first > 0 ? unit.copy_bytes : 0);
      bytes[static_cast<size_t>(first) * units + last] = {weights, StageActivationBytes(rank.spec, held, options, kind),
                                                          block};
    }
  }
  return bytes;
}

const ReplicaModel::FreedBytes& ReplicaModel::MostFreedOf(int tp, const FleetDevice& device) {
  const int64_t room = RoomElsewhere(device);
  FreedBytes& freed = freed_[{tp, room}];
  if (!freed.empty()) return freed;
  const RankModel& rank = **OneOf(tp);
  const int units = units_.count();
  freed.resize(static_cast<size_t>(units) * units);
  for (int first = 0; first < units; ++first) {
    for (int last = first; last < units; ++last)
      freed[static_cast<size_t>(first) * units + last] = MostFreed(rank.Pieces({first, last}), room);
  }
  return freed;
}

int64_t ReplicaModel::Pipeline::Over(int stage, int first, int last, int64_t blocks) const {
  const StageBytes& run = at(first, last);
  return run.weights + run.activations + blocks * run.block - room[stage];
}

std::optional<Offloaded> ReplicaModel::Fits::Of(int stage, int first, int last) {
  const int64_t over = pipeline_.Over(stage, first, last, blocks_);
  if (over <= 0) return Offloaded();
  if (over > pipeline_.MostFreed(stage, first, last)) return std::nullopt;
  const auto [found, added] = decided_.try_emplace({pipeline_.like[stage], pipeline_.index(first, last)});
  if (added) found->second = Offload(pipeline_.rank->Pieces({first, last}), over, *pipeline_.devices[stage]);
  return found->second;
}

ReplicaModel::Pipeline ReplicaModel::MakePipeline(const ReplicaShape& shape) {
  Pipeline pipeline{.devices = {},
                    .room = {},
                    .beside = HandoffBytes(spec_, OptionsFor(shape.requests), shape.pp,
                                           fleet_.devices[shape.first_device].device.kind),
                    .like = {},
                    .freed = {},
                    .rank = *OneOf(shape.tp),
                    .bytes = &Bytes(shape, fleet_.devices[shape.first_device].device.kind),
                    .units = units_.count()};
  for (int s = 0; s < shape.pp; ++s) {
    const FleetDevice& device = fleet_.devices[shape.first_device + s * shape.tp];
    pipeline.devices.push_back(&device);
    pipeline.room.push_back(device.budget - Reserve(device) - pipeline.beside);
    int like = 0;
    while (like < s && (pipeline.room[like] != pipeline.room[s] || !pipeline.devices[like]->OffloadsLike(device)))
      ++like;
    pipeline.like.push_back(like);
    if (shape.offload) pipeline.freed.push_back(&MostFreedOf(shape.tp, device));
  }
  return pipeline;
}

std::string ReplicaModel::Misfit(const ReplicaShape& shape, const Pipeline& pipeline) const {
  const auto over = [&](int s, int first, int last) {
    return pipeline.Over(s, first, last, blocks_least_) - pipeline.MostFreed(s, first, last);
  };
  const auto part = [&](int s, int first, int last) {
    return 1 + static_cast<double>(over(s, first, last)) / static_cast<double>(pipeline.devices[s]->budget);
  };
  const std::vector<int> firsts = BestCut(pipeline.units, shape.pp, part);
  int worst = 0;
  const auto last = [&](int s) { return s + 1 < shape.pp ? firsts[s + 1] - 1 : pipeline.units - 1; };
  for (int s = 1; s < shape.pp; ++s) {
    if (part(s, firsts[s], last(s)) > part(worst, firsts[worst], last(worst))) worst = s;
  }
  const FleetDevice& device = *pipeline.devices[worst];
  const StageBytes& bytes = pipeline.at(firsts[worst], last(worst));
  std::vector<int> units(last(worst) - firsts[worst] + 1);
  std::iota(units.begin(), units.end(), firsts[worst]);
  std::string weights = absl::StrCat("weights ", FormatBytes(bytes.weights));
  if (shape.offload) {
    absl::StrAppend(&weights, " less ", FormatBytes(pipeline.MostFreed(worst, firsts[worst], last(worst))),
                    " that may leave");
    if (device.disk_bytes_per_second <= 0)
      absl::StrAppend(&weights, " for ", FormatBytes(device.cpu_bytes), " of CPU memory");
  }
  return absl::StrCat(device.device.name, " is ", FormatBytes(over(worst, firsts[worst], last(worst))),
                      " short: its budget is ", FormatBytes(device.budget), ", and ", UnitNames(units_, units),
                      shape.tp > 1 ? absl::StrCat(" (1/", shape.tp, " of each)") : "", " take ", weights,
                      " + KV cache of one request ", FormatBytes(blocks_least_ * bytes.block), " + activations ",
                      FormatBytes(bytes.activations + pipeline.beside),
                      Reserve(device) > 0 ? absl::StrCat(" + reserve ", FormatBytes(Reserve(device))) : "");
}

ReplicaFit ReplicaModel::Fit(const ReplicaShape& shape) {
  const Pipeline pipeline = MakePipeline(shape);
  const int64_t requests = OptionsFor(shape.requests).max_num_seqs,
                wanted = std::max(blocks_least_, requests * blocks_each_);
  // Blocks that a stage has room for, as a load: fewer are worse.
  const auto capacity = [&](int s, int first, int last) {
    const StageBytes& run = pipeline.at(first, last);
    const int64_t left = pipeline.room[s] - run.activations - run.weights + pipeline.MostFreed(s, first, last);
    if (left < 0) return kImpossible;
    return -static_cast<double>(run.block == 0 ? wanted : std::min(wanted, left / run.block));
  };
  const std::vector<int> firsts = BestCut(pipeline.units, shape.pp, capacity);
  int64_t most = firsts.empty() ? -1 : wanted;
  for (int s = 0; s < static_cast<int>(firsts.size()); ++s) {
    most = std::min(
        most, static_cast<int64_t>(-capacity(s, firsts[s], s + 1 < shape.pp ? firsts[s + 1] - 1 : pipeline.units - 1)));
  }
  if (most < blocks_least_) return {.misfit = Misfit(shape, pipeline), .running = 0};
  return {.misfit = "", .running = std::min(requests, most / blocks_each_)};
}

ReplicaTimes ReplicaModel::Time(const ReplicaShape& shape, const ReplicaFit& fit, int micro_batches) {
  const Pipeline pipeline = MakePipeline(shape);
  const ModelWork& work = pipeline.rank->work;
  const int units = units_.count(), pp = shape.pp, tp = shape.tp;
  const int64_t blocks = fit.running * blocks_each_;
  const Steps steps = MakeSteps(workload_, options_.max_num_batched_tokens, fit.running, pp, micro_batches);

  std::vector<StageTimers> timers;
  for (int s = 0; s < pp; ++s) {
    const int index = shape.first_device + s * tp;
    const Rank rank = MakeRank(work, fleet_, index, tp, work.total_bytes / pp);
    const Link* arrival = s > 0 ? &LinkBetween(fleet_, index - 1, index) : nullptr;
    const auto timer = [&](const StepRows& step) {
      return StageTimer(work, rank, fleet_.devices[index], arrival, step);
    };
    timers.push_back({timer(steps.prefill), timer(steps.alone), timer(steps.decode)});
  }
  Fits fits(pipeline, blocks);
  const std::vector<int> firsts = BestCut(units, pp, [&](int s, int first, int last) {
    const std::optional<Offloaded> offloaded = fits.Of(s, first, last);
    if (!offloaded.has_value()) return kImpossible;
    return steps.prefills * timers[s].prefill.Seconds(first, last, *offloaded) +
           steps.decodes * timers[s].decode.Seconds(first, last, *offloaded);
  });

  ReplicaTimes times;
  const FleetDevice& front = *pipeline.devices.front();
  StageSeconds prefill{.stages = {}, .turns = front.turns, .hand_over = front.speed.hand_over_seconds},
      alone = prefill, decode = prefill;
  for (int s = 0; s < pp; ++s) {
    const int first = firsts[s], last = s + 1 < pp ? firsts[s + 1] - 1 : units - 1;
    const StageBytes& bytes = pipeline.at(first, last);
    const FleetDevice& device = *pipeline.devices[s];
    const Offloaded offloaded = *fits.Of(s, first, last);
    times.stages.push_back({.units = {first, last},
                            .device = shape.first_device + s * tp,
                            .budget = device.budget,
                            .weights = bytes.weights - offloaded.bytes + offloaded.staging,
                            .kv_cache = blocks * bytes.block,
                            .activations = bytes.activations + pipeline.beside,
                            .reserve = Reserve(device),
                            .offloaded = offloaded});
    prefill.stages.push_back(timers[s].prefill.Seconds(first, last, offloaded));
    alone.stages.push_back(timers[s].alone.Seconds(first, last, offloaded));
    decode.stages.push_back(timers[s].decode.Seconds(first, last, offloaded));
  }

  const double running = static_cast<double>(fit.running), output = static_cast<double>(workload_.output_tokens);
  times.round_seconds = RoundSeconds(decode, micro_batches);
  times.bubble = BubbleShare(decode, micro_batches);
  times.prompt_seconds = steps.prefills / running * prefill.Pace();
  const double cycle = running * times.prompt_seconds + (output - 1) * times.round_seconds;
  times.tokens_per_second = running * output / cycle;
  // Those that wait follow one another at the rate at which requests end.
  const double wait = static_cast<double>(shape.requests - fit.running) * cycle / running;
  const double step_before = fit.running > 1 && output > 1 ? decode.Pace() : 0;
  times.ttft_seconds = wait + step_before + FillAndDrainSeconds(alone, steps.chunks);
  if (output > 1) times.tpot_seconds = times.round_seconds + (running - 1) * times.prompt_seconds / (output - 1);
  return times;
}

}  // namespace causeway
