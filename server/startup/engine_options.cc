#include "server/startup/engine_options.h"

#include <limits>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/plan/device.h"
#include "engine/plan/ranks.h"
#include "server/startup/device_map.h"

namespace causeway {
namespace {

constexpr int64_t kKvCacheTokensMax = 1'000'000'000'000;

absl::Status Wrong(const LoadedConfig& loaded, const std::string& path, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat(loaded.Where(path), ": ", message));
}

absl::Status SetKvCache(absl::string_view text, PlanOptions* plan) {
  if (text.empty() || text == "auto") return absl::OkStatus();
  if (absl::c_all_of(text, absl::ascii_isdigit)) {
    if (absl::SimpleAtoi(text, &plan->kv_cache_tokens) && plan->kv_cache_tokens <= kKvCacheTokensMax)
      return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("expected at most ", kKvCacheTokensMax, " tokens, got \"",
                                                   absl::CEscape(text.substr(0, 100)), "\""));
  }
  absl::StatusOr<int64_t> bytes = ParseBytes(text);
  if (!bytes.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected tokens (\"65536\"), bytes with their unit (\"4GiB\"), 0 or auto; ", bytes.status().message()));
  }
  plan->kv_cache_bytes = *bytes;
  return absl::OkStatus();
}

// All that plans take of the configuration. The engine adds what follows from its other options (PlanOptionsFor).
absl::StatusOr<PlanOptions> ReadPlanOptions(const LoadedConfig& loaded) {
  const v1::Config& config = loaded.config;
  PlanOptions plan;
  plan.max_model_len = config.batching().max_model_len();
  plan.max_num_seqs = config.batching().max_num_seqs();
  plan.max_num_batched_tokens = config.batching().max_num_batched_tokens();
  if (config.batching().kv_cache_dtype() == "int8") plan.kv_dtype = DType::kI8;
  if (absl::Status status = SetKvCache(config.batching().kv_cache(), &plan); !status.ok()) {
    return Wrong(loaded, "batching.kv_cache", status.message());
  }
  if (const std::string& text = config.placement().max_memory(); !text.empty()) {
    auto budgets = ParseMaxMemory(text);
    if (!budgets.ok()) return Wrong(loaded, "placement.max_memory", budgets.status().message());
    plan.max_memory = *std::move(budgets);
  }
  absl::StatusOr<Parallel> parallel = ParseParallel(config.placement().parallel());
  if (!parallel.ok()) return Wrong(loaded, "placement.parallel", parallel.status().message());
  plan.parallel = *parallel;
  plan.offload_to_disk = !config.placement().offload_folder().empty();
  if (absl::Status status = SetDeviceMap(config.placement().device_map(), &plan); !status.ok()) {
    return Wrong(loaded, "placement.device_map", status.message());
  }
  return plan;
}

}  // namespace

absl::StatusOr<EngineOptions> MakeEngineOptions(const LoadedConfig& loaded) {
  const v1::Config& config = loaded.config;
  EngineOptions options;
  options.model = config.model().path();
  options.chat_template_file = config.model().chat_template();
  options.dtype = config.model().dtype();
  options.quantize = config.model().quantize();
  options.devices = config.placement().devices();
  options.queue_max = config.batching().queue_limit();
  options.prefix_cache = config.batching().prefix_cache();
  options.layer_outputs_bytes_max = config.server().layer_outputs_bytes_max();
  options.executor.cpu_threads = static_cast<int>(config.execution().cpu_threads());
  options.executor.reference_ops = config.execution().reference_ops();
  options.executor.offload_folder = config.placement().offload_folder();
  const std::string& compute = config.placement().offload_compute();
  if (compute != "auto") options.executor.offload_cpu_rows = compute == "cpu" ? std::numeric_limits<int64_t>::max() : 0;
  CAUSEWAY_ASSIGN_OR_RETURN(options.plan, ReadPlanOptions(loaded));
  return options;
}

}  // namespace causeway
