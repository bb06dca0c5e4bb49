#include <algorithm>
#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status.h"
#include "engine/engine.h"
#include "engine/graph/report.h"
#include "server/commands/commands.h"
#include "server/startup/engine_options.h"

namespace causeway {
namespace {

constexpr int64_t kRowsMax = int64_t{1} << 40;

struct GraphFlags {
  std::string tokens = "1024", batch = "1", stages, objective = "uniform,bytes", memory, format = "table";
};

absl::StatusOr<int64_t> Positive(absl::string_view flag, absl::string_view text, int64_t most) {
  int64_t value = 0;
  if (absl::SimpleAtoi(text, &value) && value >= 1 && value <= most) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, ": expected a whole number from 1 to ", most, ", got \"", text, "\""));
}

absl::StatusOr<std::vector<Objective>> Objectives(const std::string& text) {
  const std::vector<Objective> known = {Objective::kUniform, Objective::kParameters, Objective::kBytes,
                                        Objective::kFlops};
  if (text == "all") return known;
  std::vector<Objective> objectives;
  for (absl::string_view name : absl::StrSplit(text, ',')) {
    bool found = false;
    for (const Objective objective : known) {
      if (name != ObjectiveName(objective)) continue;
      objectives.push_back(objective);
      found = true;
    }
    if (!found)
      return absl::InvalidArgumentError(
          absl::StrCat("--objective: expected uniform, parameters, bytes, flops or all, got \"", name, "\""));
  }
  return objectives;
}

absl::StatusOr<std::vector<int64_t>> StageNumbers(const std::string& text, int64_t layers) {
  std::vector<int64_t> numbers;
  if (text.empty()) {
    for (const int64_t stages : {2, 4, 6, 8}) {
      if (stages <= layers) numbers.push_back(stages);
    }
    return numbers;
  }
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    CAUSEWAY_ASSIGN_OR_RETURN(numbers.emplace_back(), Positive("stages", item, 1024));
  }
  return numbers;
}

absl::StatusOr<GraphReport> Report(const ModelSpec& spec, const DType dtype, const GraphFlags& flags) {
  GraphReport report;
  GraphOptions options{.dtype = dtype};
  CAUSEWAY_ASSIGN_OR_RETURN(options.batch, Positive("batch", flags.batch, 1 << 20));
  CAUSEWAY_ASSIGN_OR_RETURN(options.tokens, Positive("tokens", flags.tokens, kRowsMax / options.batch));
  int64_t memory = 0;
  if (!flags.memory.empty()) {
    absl::StatusOr<int64_t> bytes = ParseBytes(flags.memory);
    if (!bytes.ok()) return absl::InvalidArgumentError(absl::StrCat("--memory: ", bytes.status().message()));
    memory = *bytes;
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<Objective> objectives, Objectives(flags.objective));
  report.graph = MakeLayerGraph(spec, options);
  int64_t most = 1;
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<int64_t> numbers,
                            StageNumbers(flags.stages, static_cast<int64_t>(spec.layers.size())));
  for (const int64_t stages : numbers) {
    most = std::max(most, stages);
    for (const Objective objective : objectives) {
      absl::StatusOr<StageCut> cut = CutIntoStages(report.graph, static_cast<int>(stages), objective);
      if (!cut.ok()) return absl::InvalidArgumentError(absl::StrCat("--stages: ", cut.status().message()));
      report.cuts.push_back(*std::move(cut));
    }
  }
  report.advice = AdviseStages(report.graph, static_cast<int>(most), memory);
  return report;
}

}  // namespace

int GraphCommand(const std::vector<std::string>& arguments) {
  GraphFlags flags;
  CommandStart start =
      StartCommand("graph", "shows a model's layers, what goes between them, and how they make stages", arguments,
                   {{"tokens", "N", "Tokens of each prompt of the pass that is counted.", &flags.tokens},
                    {"batch", "N", "Prompts of that pass.", &flags.batch},
                    {"stages", "LIST",
                     "Numbers of stages to cut it into; the largest bounds the advice too. Empty: 2,4,6,8, as far as "
                     "there are layers.",
                     &flags.stages},
                    {"objective", "LIST",
                     "What stages are made even by: uniform (the number of layers), parameters, bytes, flops, or all.",
                     &flags.objective},
                    {"memory", "BYTES",
                     "What a stage's weights may take (\"24GB\"): advises the fewest stages that do.", &flags.memory},
                    {"format", "table|json|dot", "How it is printed; dot is for Graphviz.", &flags.format}});
  if (start.exit >= 0) return start.exit;
  if (flags.format != "table" && flags.format != "json" && flags.format != "dot") {
    std::fprintf(stderr, "causewayd: --format: expected table, json or dot, got \"%s\"\n", flags.format.c_str());
    return kExitUsage;
  }
  absl::StatusOr<EngineOptions> options = MakeEngineOptions(start.loaded);
  if (!options.ok()) return Fail(options.status());
  absl::StatusOr<PlacedModel> read = ReadModel(*options, Purpose::kPlanning);
  if (!read.ok()) return Fail(read.status());
  absl::StatusOr<GraphReport> report = Report(read->spec, read->plan.options.dtype, flags);
  if (!report.ok()) return Fail(report.status());
  for (const std::string& warning : read->spec.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  const std::string text = flags.format == "json"  ? GraphJson(*report)
                           : flags.format == "dot" ? GraphDot(*report)
                                                   : GraphTable(*report);
  std::printf("%s", text.c_str());
  return 0;
}

}  // namespace causeway
