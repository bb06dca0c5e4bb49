#include <iostream>
#include <memory>
#include <string>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/read_file.h"

namespace causeway {
namespace {

struct PlanFlags {
  v1::GetPlanRequest request;
  std::string format = "table";
};

// The map itself is sent, since the file is on this machine.
absl::Status ReadMap(v1::GetPlanRequest& request) {
  const std::string& map = request.device_map();
  if (absl::StartsWith(map, "{") || (!absl::EndsWith(map, ".json") && map.find('/') == std::string::npos))
    return absl::OkStatus();
  const absl::StatusOr<std::string> text = ReadFile(map);
  if (!text.ok())
    return absl::InvalidArgumentError(absl::StrCat("--device-map: ", std::string(text.status().message())));
  if (!absl::StartsWith(absl::StripLeadingAsciiWhitespace(*text), "{")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--device-map: ", map, " has no JSON object of module prefixes to devices, such as {\"model.layers.0\": 0}"));
  }
  request.set_device_map(std::string(absl::StripLeadingAsciiWhitespace(*text)));
  return absl::OkStatus();
}

int RunPlan(Client& client, PlanFlags& flags) {
  if (absl::Status read = ReadMap(flags.request); !read.ok()) return Fail(read);
  const absl::StatusOr<v1::GetPlanResponse> plan = client.GetPlan(flags.request, {.timeout = absl::Minutes(1)});
  if (!plan.ok()) return Fail(plan.status());
  std::cout << (flags.format == "json" ? plan->json() : plan->table()) << "\n";
  return 0;
}

}  // namespace

void AddPlan(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand("plan", "Shows where the served model lives, or would live on other devices");
  auto flags = std::make_shared<PlanFlags>();
  v1::GetPlanRequest* request = &flags->request;
  const auto text = [&](const char* flag, const char* help, std::string* (v1::GetPlanRequest::*field)()) {
    command->add_option_function<std::string>(
        flag, [request, field](const std::string& value) { *(request->*field)() = value; }, help);
  };
  const auto number = [&](const char* flag, const char* help, void (v1::GetPlanRequest::*set)(int64_t)) {
    command->add_option_function<int64_t>(flag, [request, set](int64_t value) { (request->*set)(value); }, help);
  };
  using Request = v1::GetPlanRequest;
  text("--devices", "8xH100-80GB, 2xRTX4090,1xA6000,cpu:256GB, cpu:256GB, simulated:4x16GiB, cpu",
       &Request::mutable_devices);
  text("--device-map", "auto, balanced, balanced_low_0, sequential, one device, or a map: its JSON, or a file of that",
       &Request::mutable_device_map);
  text("--max-memory", "40GB of every GPU, or 0:40GB,1:60GiB,cpu:100GB, or that as JSON", &Request::mutable_max_memory);
  text("--dtype", "auto, bf16, fp16, fp32", &Request::mutable_dtype);
  text("--quantize", "none, int8, int4", &Request::mutable_quantize);
  number("--max-model-len", "Tokens of a sequence; 0: the model's context", &Request::set_max_model_len);
  number("--max-num-seqs", "Sequences at once", &Request::set_max_num_seqs);
  number("--max-num-batched-tokens", "Tokens of a step", &Request::set_max_num_batched_tokens);
  text("--kv-cache", "Tokens (65536), bytes (2GiB), 0 (none: the weights alone) or auto (what the budgets leave)",
       &Request::mutable_kv_cache);
  text("--kv-cache-dtype", "auto, int8", &Request::mutable_kv_cache_dtype);
  command->add_option("--format", flags->format, "table or json")->check(CLI::IsMember({"table", "json"}));
  command->footer("What is left out is as the daemon was started.");
  command->callback([flags, &globals] {
    globals.run = [flags, &globals] {
      Client client(globals.server);
      return RunPlan(client, *flags);
    };
  });
}

}  // namespace causeway
