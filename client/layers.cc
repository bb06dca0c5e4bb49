#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/check.h"
#include "client/commands.h"
#include "client/options.h"
#include "client/progress.h"
#include "client/safetensors_writer.h"

namespace causeway {
namespace {

constexpr double kTimeoutSecondsMax = 604800;             // a week
constexpr int64_t kProgressBytesMin = int64_t{16} << 20;  // anything smaller arrives before a bar could be read

struct LayersFlags {
  std::optional<std::string> prompt, tokens;
  std::string layers = "all", output, model;
  bool before_final_norm = false, quiet = false;
  int32_t priority = 0;
  double timeout_seconds = 0;
};

// Statistics of the values of one layer.
struct Summary {
  int64_t count = 0;
  double sum = 0, squares = 0, largest = 0;

  void Add(const std::string& bytes) {
    for (size_t at = 0; at < bytes.size(); at += sizeof(float)) {
      float value;
      std::memcpy(&value, bytes.data() + at, sizeof(float));
      ++count;
      sum += value;
      squares += static_cast<double>(value) * value;
      if (!(std::abs(value) <= largest)) largest = std::abs(value);  // a NaN is kept
    }
  }
  double mean() const { return sum / static_cast<double>(count); }
  double deviation() const { return std::sqrt(std::max(0.0, squares / static_cast<double>(count) - mean() * mean())); }
};

// Takes the stream as it comes: writes it to the file, and into a summary for each layer.
class Receiver {
 public:
  Receiver(const LayersFlags& flags, std::vector<int32_t> ids) : flags_(flags), ids_(std::move(ids)) {}

  absl::Status Take(const v1::ExtractLayerOutputsResponse& event) {
    if (event.has_accepted()) return Begin(event.accepted());
    const v1::LayerRows& rows = event.rows();
    Summary& summary = summaries_[rows.layer()];
    if (rows.first_row() * accepted_.hidden_size() != summary.count || rows.layer() != accepted_.layers(layer_)) {
      return absl::InternalError(
          absl::StrCat("rows of layer ", rows.layer(), " from ", rows.first_row(), " on came out of their order"));
    }
    summary.Add(rows.values());
    if (summary.count == accepted_.rows() * accepted_.hidden_size()) ++layer_;
    if (progress_ != nullptr)
      progress_->Add(static_cast<int64_t>(rows.values().size()) / sizeof(float) / accepted_.hidden_size());
    return file_ == nullptr ? absl::OkStatus() : file_->Append(rows.values());
  }

  // Call it after the stream's end.
  absl::Status Finish() {
    if (progress_ != nullptr) progress_->Finish();
    if (layer_ != accepted_.layers_size()) return absl::InternalError("the stream ended before all layers were there");
    return file_ == nullptr ? absl::OkStatus() : file_->Finish();
  }

  std::string Table() const {
    std::string out = absl::StrFormat("%5s %8s %12s %12s %12s\n", "layer", "rows", "mean", "std", "max |x|");
    for (const auto& [layer, summary] : summaries_) {
      absl::StrAppendFormat(&out, "%5d %8d %12.6g %12.6g %12.6g\n", layer, accepted_.rows(), summary.mean(),
                            summary.deviation(), summary.largest);
    }
    return out;
  }

 private:
  absl::Status Begin(const v1::LayerOutputsAccepted& accepted) {
    accepted_ = accepted;
    const int64_t rows = accepted.rows() * accepted.layers_size();
    if (!flags_.quiet && rows * accepted.hidden_size() * static_cast<int64_t>(sizeof(float)) >= kProgressBytesMin) {
      progress_ = std::make_unique<Progress>("rows", rows);
    }
    if (flags_.output.empty()) return absl::OkStatus();
    std::vector<SafetensorsWriter::Tensor> tensors = {{"token_ids", "I64", {accepted.rows()}}};
    for (const int32_t layer : accepted.layers()) {
      tensors.push_back({absl::StrCat("hidden_states.", layer), "F32", {accepted.rows(), accepted.hidden_size()}});
    }
    auto file = SafetensorsWriter::Create(
        flags_.output, tensors, {{"format", "pt"}, {"before_final_norm", flags_.before_final_norm ? "true" : "false"}});
    if (!file.ok()) return file.status();
    file_ = *std::move(file);
    const std::vector<int64_t> ids(ids_.begin(), ids_.end());
    return file_->Append(absl::string_view(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int64_t)));
  }

  const LayersFlags& flags_;
  const std::vector<int32_t> ids_;
  v1::LayerOutputsAccepted accepted_;
  int layer_ = 0;  // whose rows come next, as an index of accepted_.layers
  std::map<int32_t, Summary> summaries_;
  std::unique_ptr<SafetensorsWriter> file_;
  std::unique_ptr<Progress> progress_;
};

// Asks the daemon for the text's tokens, so that the file can name them.
absl::StatusOr<std::vector<int32_t>> TokenIds(Client& client, const LayersFlags& flags, const CallOptions& options) {
  if (flags.tokens) return ParseTokenIds(*flags.tokens);
  v1::GenerateRequest checked;
  checked.set_prompt(*flags.prompt);
  if (absl::Status valid = CheckText(checked); !valid.ok()) return valid;
  v1::TokenizeRequest request;
  request.set_model(flags.model);
  request.set_text(*flags.prompt);
  const absl::StatusOr<v1::TokenizeResponse> response = client.Tokenize(request, options);
  if (!response.ok()) return response.status();
  return std::vector<int32_t>(response->ids().begin(), response->ids().end());
}

int RunLayers(Client& client, const LayersFlags& flags) {
  CallOptions options;
  if (flags.timeout_seconds > 0) options.timeout = absl::Seconds(flags.timeout_seconds);
  const absl::StatusOr<std::vector<int32_t>> layers = ParseLayers(flags.layers);
  if (!layers.ok()) return Fail(layers.status());
  const absl::StatusOr<std::vector<int32_t>> ids = TokenIds(client, flags, options);
  if (!ids.ok()) return Fail(ids.status());
  v1::ExtractLayerOutputsRequest request;
  request.set_model(flags.model);
  request.set_priority(flags.priority);
  request.set_before_final_norm(flags.before_final_norm);
  request.mutable_tokens()->mutable_ids()->Add(ids->begin(), ids->end());
  request.mutable_layers()->Add(layers->begin(), layers->end());

  Receiver receiver(flags, *ids);
  absl::Status taken;
  absl::Status status = client.ExtractLayerOutputs(
      request,
      [&](const v1::ExtractLayerOutputsResponse& event) {
        if (taken.ok()) taken = receiver.Take(event);
        return taken.ok();
      },
      options);
  if (!taken.ok()) return Fail(taken);  // its error has cancelled the stream
  if (status.ok()) status = receiver.Finish();
  if (!status.ok()) return Fail(status);
  std::cout << receiver.Table();
  if (!flags.output.empty() && !flags.quiet) std::cerr << "written to " << flags.output << "\n";
  return 0;
}

}  // namespace

void AddLayers(CLI::App& app, Globals& globals) {
  CLI::App* command =
      app.add_subcommand("layers", "Saves what the model's layers put out for a text, its hidden states");
  auto flags = std::make_shared<LayersFlags>();
  // With "" a text was given, too.
  CLI::Option* prompt = command->add_option_function<std::string>(
      "--prompt", [&flags = *flags](const std::string& text) { flags.prompt = text; }, "The text");
  CLI::Option* tokens = command->add_option_function<std::string>(
      "--tokens", [&flags = *flags](const std::string& ids) { flags.tokens = ids; },
      "Token ids instead of a text: 12,7,99");
  prompt->excludes(tokens);
  command
      ->add_option("--layers", flags->layers,
                   "0 is the embeddings, 5 the fifth layer, -1 the last, behind the final norm: 0,5,-1, or all")
      ->capture_default_str();
  command->add_flag("--before-final-norm", flags->before_final_norm,
                    "The last is what the last layer puts out, before the final norm");
  command->add_option("--output", flags->output,
                      "A safetensors file with hidden_states.LAYER [tokens, hidden size] in fp32, and token_ids");
  command->add_option("--model", flags->model, "Name of the model; must be the one served");
  command->add_option("--priority", flags->priority, "Higher goes first");
  command->add_option("--timeout", flags->timeout_seconds, "Gives up after this many seconds; 0 never does")
      ->check(NumberBetween(0, kTimeoutSecondsMax));
  command->add_flag("-q,--quiet", flags->quiet, "The table alone");
  command->callback([flags, &globals] {
    if (!flags->prompt && !flags->tokens) throw CLI::ValidationError("layers", "needs --prompt or --tokens");
    globals.run = [flags, &globals] {
      Client client(globals.server);
      return RunLayers(client, *flags);
    };
  });
}

}  // namespace causeway
