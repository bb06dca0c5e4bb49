// The engine behind one model: everything from a checkpoint folder to streams of text, with no RPC in it.
#ifndef CAUSEWAY_ENGINE_ENGINE_H_
#define CAUSEWAY_ENGINE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/architecture/spec.h"
#include "engine/batch/finish.h"
#include "engine/batch/step.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/execution/executor.h"
#include "engine/execution/followers.h"
#include "engine/execution/process_share.h"
#include "engine/plan/plan.h"
#include "engine/sampling/params.h"
#include "engine/schedule/stats.h"
#include "engine/text/chat_template.h"
#include "engine/text/grammar.h"
#include "engine/text/tokenizer.h"

namespace causeway {

// What a replica's executor needs where several processes drive its devices.
struct ReplicaProcesses {
  ProcessShare share;
  std::unique_ptr<Followers> followers;
};

struct EngineOptions {
  std::string model;    // a folder, or org/name in the local Hugging Face cache
  std::string devices;  // ParseDevices; empty: cuda where there is one, else cpu
  std::string dtype = "auto";
  std::string chat_template_file;  // takes the place of the model's own template; empty: that one
  std::string quantize;            // ParseQuantize: the format that weights get while they are loaded; empty: none
  PlanOptions plan;                // all but what PlanOptionsFor adds
  ExecutorOptions executor;
  int64_t queue_max = 1024;  // requests waiting to be admitted
  bool prefix_cache = true;
  // The most CPU threads of a process among those that drive the devices: activations are reckoned for them. 0: those
  // of `executor`.
  int plan_threads = 0;
  // Where other processes drive devices of the model: how a replica's executor reaches them. Null: none do.
  std::function<absl::StatusOr<ReplicaProcesses>(int replica, const Plan& plan)> processes;
  int64_t layer_outputs_bytes_max = int64_t{1} << 30;  // for all requests together, each from when it is submitted
  // Called once for each replica, on its thread, when one of its devices has failed for good: from then on every
  // request that it has fails, and it gets no more while others serve, until Restore. `left` says how many do. It must
  // not block. May be null.
  std::function<void(const absl::Status& failure, int replica, int left)> on_device_failure;
};

// options.plan with what follows from the other fields: the dtype that is computed in, and what the executor will hold.
PlanOptions PlanOptionsFor(const EngineOptions& options, DType dtype);

// A checkpoint opened and placed, before anything is loaded. `causewayd plan` shows it.
struct PlacedModel {
  std::string folder;
  std::string name;  // the name that requests may use: the folder's last part, or org/name
  std::unique_ptr<Checkpoint> checkpoint;
  ModelSpec spec;
  std::vector<Plan> replicas;  // each is loaded and computes by itself
  Plan plan;                   // of all of them, to be shown (JoinReplicas)
  std::string no_driver;  // why the CPU computes although a GPU might: there is no driver, which is nothing to warn of
};
// kPlanning: the weights need not be there yet, and devices need not be at hand.
enum class Purpose : uint8_t { kRunning, kPlanning };
absl::StatusOr<PlacedModel> PlaceModel(const EngineOptions& options, Purpose purpose = Purpose::kRunning);
// Plans for these devices in place of options.devices.
absl::StatusOr<PlacedModel> PlaceModel(const EngineOptions& options, const std::vector<Device>& devices,
                                       Purpose purpose = Purpose::kPlanning);
// What options.devices names.
struct FoundDevices {
  std::vector<Device> devices;
  std::vector<std::string> warnings;  // what was left out
  std::string no_driver;              // PlacedModel's
};
absl::StatusOr<FoundDevices> FindDevices(const EngineOptions& options, Purpose purpose = Purpose::kRunning);
// Reads the model without devices: of the plan only the options are set.
absl::StatusOr<PlacedModel> ReadModel(const EngineOptions& options, Purpose purpose);

struct GenerationRequest {
  std::string request_id;       // unique among running requests
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;      // choice i draws with seed + i
  StopParams stop;              // token_ids already hold the end-of-sequence ids, unless ignored
  int32_t n = 1;
  int32_t priority = 0;                           // higher first
  absl::Time deadline = absl::InfiniteFuture();   // in the time of Clock::Real(), not of the wall clock
  std::string cache_salt;                         // prefixes are shared only between requests of equal salt
  std::shared_ptr<const GrammarMatcher> grammar;  // each choice follows it; from CompileGrammar; null allows anything
  // The units whose outputs for the prompt are gathered, ascending: 0 the embeddings, 1..L the layers (the sum that the
  // next one reads), L + 1 the final norm. The whole prompt is then computed, whatever the cache has of it.
  std::vector<int> layer_units;
};

// A piece of one choice. Text may lag behind the tokens: an unfinished character or the possible start of a stop string
// is held back. Without a tokenizer there is no text.
struct GenerationDelta {
  int32_t index = 0;
  std::string text;
  std::vector<SampledToken> tokens;
  // The next of the prompt's tokens with their logprobs, where sampling.prompt_logprobs asks for them. They come for
  // the first choice only: all tokens but the first, before any that is generated.
  std::vector<SampledToken> prompt;
};

struct ChoiceEnd {
  int32_t index = 0;
  FinishReason reason = FinishReason::kStop;
  std::string stop_match;  // the stop string, or the stop token's text (empty for a special token)
};

struct GenerationEnd {
  absl::Status status;  // an error when the engine failed; deadline and cancellation are reasons, not errors
  std::vector<ChoiceEnd> choices;
  int64_t prompt_tokens = 0, generated_tokens = 0, cached_tokens = 0;
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
  // The outputs of layer_units, complete. Null where none are asked for, and unless every choice has ended by itself.
  // Its memory counts as held for as long as anybody has it.
  std::shared_ptr<const LayerOutputs> layer_outputs;
};

// One thread at a time calls it, the one of the replica that computes the request. It must not block, and must not call
// the engine's Submit.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnDelta(GenerationDelta delta) = 0;
  virtual void OnEnd(GenerationEnd end) = 0;  // exactly once, the last call
};

// The engine reports its work to it, for metrics. Each replica's thread calls it; it must not block.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  struct Step {
    double seconds = 0;
    int64_t tokens = 0, prefill_tokens = 0, sequences = 0;
  };
  virtual void OnStep(const Step& step) = 0;
  virtual void OnAdmitted(double queue_seconds) = 0;
  virtual void OnFirstToken(double seconds_since_submit) = 0;
  virtual void OnInterToken(double seconds) = 0;
  virtual void OnEnd(const GenerationEnd& end, double seconds_since_submit) = 0;
};

struct EngineStats {
  int64_t requests_running = 0, requests_waiting = 0;
  SchedulerStats scheduler;
  absl::Time last_step;
  double load_seconds = 0;
  double text_seconds = 0;           // time for tokenizer and chat template, which are read beside the rest
  int64_t constrained_requests = 0;  // requests submitted with a grammar
  int64_t masks = 0;                 // masks of allowed tokens, computed for these requests
  double mask_seconds = 0;           // time spent on masks, beside the steps
  ExecutorStats executor;            // of all replicas, whose devices are in the plan's order
  struct Replica {
    SchedulerStats scheduler;
    bool lost = false;  // a device of it has failed for good
  };
  std::vector<Replica> replicas;
};

// One submitted request; never given again.
using RequestHandle = uint64_t;

// Thread-safe.
class Engine {
 public:
  // Loads what PlaceModel placed, which takes minutes for a large model. `observer` may be null and must outlive the
  // engine.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(PlacedModel model, const EngineOptions& options,
                                                        EngineObserver* observer,
                                                        const std::function<void(const LoadProgress&)>& progress);
  virtual ~Engine() = default;  // cancels the running requests

  // ResourceExhausted: the queue is full, or the layers' outputs that are held already leave no room for these.
  // InvalidArgument: the prompt is empty, has an id outside the vocabulary, or leaves no room for a token in the
  // context; or its layers' outputs alone are above layer_outputs_bytes_max. Unavailable: the engine drains.
  // AlreadyExists: the request_id is in use. The sink is called only when the result is OK.
  virtual absl::StatusOr<RequestHandle> Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) = 0;
  // Compiles a grammar for any number of requests; GrammarCompiler says how long that takes. InvalidArgument: there is
  // no tokenizer, or the grammar is wrong; the message says how.
  virtual absl::StatusOr<std::shared_ptr<const GrammarMatcher>> CompileGrammar(const GrammarSource& source) = 0;
  // Ends the request within a step. Does nothing when it has ended.
  virtual void Cancel(RequestHandle request) = 0;
  // Cancels by name, for callers who did not submit the request. NotFound: no such request is running or waiting.
  virtual absl::Status Cancel(const std::string& request_id) = 0;
  // The limits of EngineOptions, from now on. What has been accepted stays.
  virtual void SetLimits(int64_t queue_max, int64_t layer_outputs_bytes_max) = 0;
  // Refuses new requests from now on. Waits until the running ones have ended or until `deadline`, and then cancels the
  // rest. Returns true when all ended by themselves.
  virtual bool Drain(absl::Time deadline) = 0;

  // Loads a replica that was lost, with EngineOptions::processes asked anew, and has requests routed to it again. Waits
  // until then. FailedPrecondition: it is not lost, or no other serves. Else errors of loading, after which it may be
  // tried again. One call at a time.
  virtual absl::Status Restore(int replica) = 0;

  virtual EngineStats Stats() const = 0;
  virtual const PlacedModel& model() const = 0;
  virtual const Tokenizer* tokenizer() const = 0;         // null where the folder has none: token ids only
  virtual const ChatTemplate* chat_template() const = 0;  // null where there is none that can be used
  // Why the folder's chat template cannot be used. Empty: it can, or there is none.
  virtual std::string chat_template_error() const { return ""; }
  // What the model's text files ask for and the engine does not do, a sentence each.
  virtual std::vector<std::string> text_warnings() const { return {}; }
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ENGINE_H_
