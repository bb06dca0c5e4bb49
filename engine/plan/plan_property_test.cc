// What holds of the plans of any model on any fleet. CAUSEWAY_ROUNDS=N asks more of them.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/architecture/quantization.h"
#include "engine/architecture/registry.h"
#include "engine/base/limits.h"
#include "engine/base/status.h"
#include "engine/plan/budgets.h"
#include "engine/plan/capacity.h"
#include "engine/plan/memory.h"
#include "engine/plan/test_models.h"
#include "engine/plan/unit_table.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;
const char* const kPolicies[] = {"auto", "balanced", "balanced_low_0", "sequential"};

int Rounds(int otherwise) {
  const char* more = std::getenv("CAUSEWAY_ROUNDS");
  return more != nullptr ? std::max(otherwise, std::atoi(more)) : otherwise;
}

class Random {
 public:
  explicit Random(unsigned seed) : bits_(seed) {}
  int64_t Pick(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(bits_() % static_cast<uint64_t>(most - least + 1));
  }
  bool OneIn(int64_t n) { return Pick(1, n) == 1; }
  template <typename T>
  const T& Of(const std::vector<T>& values) {
    return values[Pick(0, static_cast<int64_t>(values.size()) - 1)];
  }
  std::mt19937& bits() { return bits_; }

 private:
  std::mt19937 bits_;
};

Json RandomConfig(Random& random, int64_t layers_most) {
  const std::string type = random.Of(SupportedArchitectures());
  const int64_t heads = random.Of<int64_t>({2, 4, 6}), head_dim = random.Of<int64_t>({8, 16}),
                layers = random.Pick(1, layers_most);
  const int64_t vocab = random.OneIn(3) ? random.Pick(1000, 20000) : random.Pick(40, 600),
                context = random.Pick(32, 600);
  if (type == "gpt2") {
    return {{"model_type", type},
            {"vocab_size", vocab},
            {"n_embd", heads * head_dim},
            {"n_layer", layers},
            {"n_head", heads},
            {"n_positions", context},
            {"n_inner", random.Pick(16, 400)},
            {"tie_word_embeddings", !random.OneIn(3)}};
  }
  Json config = {{"model_type", type},
                 {"vocab_size", vocab},
                 {"hidden_size", heads * head_dim},
                 {"intermediate_size", random.Pick(16, 400)},
                 {"num_hidden_layers", layers},
                 {"num_attention_heads", heads},
                 {"num_key_value_heads", random.Of<int64_t>({1, 2, heads})},
                 {"head_dim", head_dim},
                 {"max_position_embeddings", context},
                 {"eos_token_id", 2},
                 {"tie_word_embeddings", random.OneIn(2)}};
  if (type == "mixtral" || type == "minimax_m2") config["num_local_experts"] = random.Pick(2, 5);
  if (type == "minimax_m2") config["rotary_dim"] = head_dim / 2;
  if (type == "qwen3_moe") {
    config["num_experts"] = random.Pick(2, 5);
    config["moe_intermediate_size"] = random.Pick(8, 200);
    config["decoder_sparse_step"] = random.Pick(1, 3);  // some layers are dense
  }
  if (type == "mixtral" || type == "minimax_m2" || type == "qwen3_moe")
    config["num_experts_per_tok"] = random.Pick(1, 2);
  return config;
}

struct Case {
  Json config;
  ModelSpec spec;
  std::vector<Device> devices;
  PlanOptions options;

  // What a smaller spec is made of, as serving has it.
  absl::StatusOr<ModelSpec> Narrower(DType dtype, const std::string& quantize) const {
    ModelSpec narrow = TestSpec(config, dtype);
    CAUSEWAY_ASSIGN_OR_RETURN(const WeightFormat format, ParseQuantize(quantize));
    CAUSEWAY_RETURN_IF_ERROR(QuantizeOnLoad(format, narrow));
    return narrow;
  }
  absl::StatusOr<Plan> Make() const {
    return MakePlan(spec, devices, options,
                    [this](DType dtype, const std::string& quantize) { return Narrower(dtype, quantize); });
  }
  std::string Text() const {
    return absl::StrCat(config.dump(), ", ", DTypeName(options.dtype), ", max_model_len ", options.max_model_len,
                        ", max_num_seqs ", options.max_num_seqs, ", max_num_batched_tokens ",
                        options.max_num_batched_tokens, ", kv_cache_tokens ", options.kv_cache_tokens, ", on ",
                        absl::StrJoin(devices, ", ", [](std::string* out, const Device& d) {
                          absl::StrAppend(out, d.name, " of ", d.memory_bytes);
                        }));
  }
};

void SetModel(Random& random, int64_t layers_most, Case& c) {
  c.config = RandomConfig(random, layers_most);
  c.options.dtype = random.OneIn(3) ? DType::kF32 : DType::kBF16;
  c.spec = TestSpec(c.config, c.options.dtype);
}

// Options and a fleet of up to `devices_most` for the model: some too small, most somewhat larger than it takes.
void SetFleet(Random& random, int devices_most, Case& c) {
  const DType dtype = c.options.dtype;
  c.options = TestOptions("auto", dtype);
  c.options.max_num_seqs = random.Pick(1, 8);
  c.options.max_num_batched_tokens = random.Pick(c.options.max_num_seqs, 96);
  c.options.max_model_len = random.Pick(16, c.spec.context_max);
  if (random.OneIn(4)) c.options.kv_dtype = DType::kI8;
  if (random.OneIn(4)) c.options.kv_cache_tokens = 0;
  if (random.OneIn(4)) c.options.kv_cache_tokens = c.options.max_model_len * random.Pick(1, 9);
  const int count = static_cast<int>(random.Pick(1, devices_most));
  const bool cuda = random.OneIn(5);
  int64_t need = TestBytes(c.spec), each = 0;
  if (c.options.kv_cache_tokens != 0) {
    std::vector<int> units(c.spec.layers.size() + 3);
    std::iota(units.begin(), units.end(), 0);
    const int64_t tokens = std::max(c.options.kv_cache_tokens, c.options.max_model_len) + kBlockTokens;
    need += tokens * static_cast<int64_t>(c.spec.layers.size()) * LayerKvBytesPerToken(c.spec, c.options);
    each = ActivationBytes(c.spec, units, c.options, cuda ? DeviceKind::kCuda : DeviceKind::kSimulated) +
           HandoffBytes(c.spec, c.options, count, cuda ? DeviceKind::kCuda : DeviceKind::kSimulated);
  }
  std::vector<int64_t> sizes;
  const bool tight = random.OneIn(4);
  for (int i = 0; i < count; ++i) {
    const int64_t size =
        need / count * random.Pick(tight ? 50 : 120, 500) / 100 + each * random.Pick(tight ? 95 : 110, 150) / 100 + 1;
    sizes.push_back(i > 0 && random.OneIn(2) ? sizes[0] : size);
  }
  c.devices = TestDevices(sizes);
  for (Device& device : c.devices) {
    if (!cuda) continue;
    device.kind = DeviceKind::kCuda;
    device.name = absl::StrCat("cuda:", device.id);
    device.memory_bytes = device.available_bytes =
        (device.memory_bytes + (c.options.kv_cache_tokens == 0 ? 0 : 600 * kMiB)) / 9 * 10;
  }
  if (random.OneIn(4)) {
    for (const Device& device : c.devices) {
      if (!random.OneIn(4))
        c.options.max_memory[device.key()] = random.OneIn(6) ? 0 : device.memory_bytes / 100 * random.Pick(50, 100);
    }
  }
}

// The table, JSON and Markdown say what the plan says.
void CheckTexts(const Plan& plan) {
  const absl::StatusOr<Json> json = ParseJson(PlanJson(plan), "plan");
  ASSERT_TRUE(json.ok()) << json.status();
  const std::string table = PlanTable(plan, false), markdown = PlanMarkdown(plan);
  const std::vector<std::string> lines = absl::StrSplit(table, '\n');
  ASSERT_EQ((*json)["devices"].size(), plan.devices.size());
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    const DevicePlan& device = plan.devices[i];
    const Json& row = (*json)["devices"][i];
    EXPECT_EQ(row["name"], device.device.name);
    EXPECT_THAT(lines[3 + i], testing::StartsWith(device.device.name));
    const std::pair<const char*, int64_t> figures[] = {
        {"budget", device.budget},           {"weights", device.weights}, {"kv_cache", device.kv_cache},
        {"activations", device.activations}, {"reserve", device.reserve}, {"free", device.free}};
    for (const auto& [name, bytes] : figures) {
      EXPECT_EQ(row[name], bytes) << name;
      if (bytes == 0) continue;
      EXPECT_THAT(lines[3 + i], HasSubstr(FormatBytes(bytes)));
      EXPECT_THAT(markdown, HasSubstr(absl::StrCat("| ", FormatBytes(bytes), " |")));
    }
  }
  for (const auto& [prefix, device] : (*json)["device_map"].items()) {
    EXPECT_EQ(plan.device_map.at(prefix), device.is_string() ? device.get<std::string>() : device.dump());
  }
  EXPECT_EQ((*json)["device_map"].size(), plan.device_map.size());
  ASSERT_EQ((*json)["segments"].size(), plan.segments.size());
  for (size_t i = 0; i < plan.segments.size(); ++i)
    EXPECT_EQ((*json)["segments"][i]["last_unit"], plan.segments[i].units.last);
  EXPECT_EQ((*json)["kv_cache"]["tokens"], plan.kv_blocks * kBlockTokens);
}

// The same devices in another order, and max_memory written in another: the same map.
void CheckOrder(Random& random, const Case& c, const Plan& plan) {
  Case other = c;
  std::shuffle(other.devices.begin(), other.devices.end(), random.bits());
  std::vector<std::string> entries;
  for (const auto& [key, bytes] : c.options.max_memory) entries.push_back(absl::StrCat(key, ":", bytes, "B"));
  std::shuffle(entries.begin(), entries.end(), random.bits());
  if (!entries.empty()) other.options.max_memory = *ParseMaxMemory(absl::StrJoin(entries, ","));
  const absl::StatusOr<Plan> again = other.Make();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->device_map, plan.device_map);
  EXPECT_EQ(again->kv_blocks, plan.kv_blocks);
}

// Whoever sets the max_num_seqs that is worth setting has a plan with room for as many, which advises the same; one
// more have no room.
void CheckAdvice(Case c, const Plan& plan) {
  const int64_t blocks = BlocksFor(std::min(plan.options.max_model_len, kUsualTokens));
  c.options.max_num_seqs = CapacityOf(plan).seqs_worth;
  absl::StatusOr<Plan> followed = c.Make();
  ASSERT_TRUE(followed.ok()) << followed.status();
  EXPECT_GE(followed->kv_blocks, c.options.max_num_seqs * blocks);
  EXPECT_EQ(followed->seqs_fitting, plan.seqs_fitting);
  c.options.max_num_seqs = plan.seqs_fitting + 1;
  if (c.options.device_map != "auto" || c.options.max_num_seqs > c.options.max_num_batched_tokens) return;
  EXPECT_LT((followed = c.Make()).ok() ? followed->kv_blocks : 0, c.options.max_num_seqs * blocks);
}

// Makes the change that a refusal proposes; false: an unknown one.
bool Apply(absl::string_view remedy, Case& c) {
  const std::vector<std::string> words = absl::StrSplit(remedy, ' ');
  const auto number = [&](size_t word) { return std::atoll(words[word].c_str()); };
  const auto bytes = [&](size_t word) { return *ParseBytes(absl::StrCat(words[word], " ", words[word + 1])); };
  const Budgets budgets = *MakeBudgets(c.devices, c.options.max_memory);
  const auto set_budgets = [&](const std::function<int64_t(int64_t)>& changed) {
    for (size_t i = 0; i < c.devices.size(); ++i) {
      if (budgets.bytes[i] == 0) continue;
      Device& device = c.devices[i];
      c.options.max_memory[device.key()] = changed(budgets.bytes[i]);
      device.memory_bytes = device.available_bytes = std::max(device.memory_bytes, changed(budgets.bytes[i]));
    }
  };
  const std::map<std::string, int64_t PlanOptions::*> numbers = {
      {"max_model_len", &PlanOptions::max_model_len},
      {"max_num_seqs", &PlanOptions::max_num_seqs},
      {"max_num_batched_tokens", &PlanOptions::max_num_batched_tokens},
      {"kv_cache", &PlanOptions::kv_cache_tokens}};
  if (numbers.contains(words[0])) {
    c.options.*numbers.at(words[0]) = number(1);
  } else if (remedy == "dtype bf16 instead of fp32") {
    c.options.dtype = DType::kBF16;
    c.spec = *c.Narrower(DType::kBF16, "");
  } else if (words[0] == "quantize") {
    c.spec = *c.Narrower(c.options.dtype, words[1]);
  } else if (remedy == "kv_cache_dtype int8") {
    c.options.kv_dtype = DType::kI8;
  } else if (remedy == "device_map auto") {
    c.options.device_map = "auto";
  } else if (absl::StartsWith(remedy, "an offload_folder")) {
    c.options.offload_to_disk = true;
  } else if (absl::StartsWith(remedy, "a budget of ")) {
    set_budgets([&](int64_t) { return bytes(3); });
  } else if (absl::StrContains(remedy, " times as large")) {
    set_budgets([&](int64_t budget) {
      return static_cast<int64_t>(static_cast<double>(budget) * std::atof(words[1].c_str()));
    });
  } else if (absl::StrContains(remedy, " free")) {
    const int64_t free = bytes(words[0] == "devices" ? 2 : 3);
    if (!c.options.max_memory.empty()) set_budgets([&](int64_t) { return free / 10 * 9; });
    for (Device& device : c.devices) device.memory_bytes = device.available_bytes = free;
  } else if (absl::StrContains(remedy, " more device")) {
    for (int64_t more = number(0); more > 0; --more) {
      Device device = c.devices.back();
      device.name = absl::StrCat("more:", ++device.id);
      if (!c.options.max_memory.empty()) c.options.max_memory[device.key()] = budgets.bytes.back();
      c.devices.push_back(device);
    }
  } else {
    return false;
  }
  return true;
}

int CheckRemedies(const Case& c, absl::string_view refusal) {
  const size_t begin = refusal.find("Any of these would make it fit: ");
  if (begin == absl::string_view::npos) return 0;
  const absl::string_view list = absl::StripPrefix(refusal.substr(begin), "Any of these would make it fit: ");
  int tried = 0;
  for (const absl::string_view remedy : absl::StrSplit(list, "; ")) {
    Case changed = c;
    EXPECT_TRUE(Apply(remedy, changed)) << "an unknown remedy: " << remedy;
    const absl::StatusOr<Plan> plan = MakePlan(changed.spec, changed.devices, changed.options);
    EXPECT_TRUE(plan.ok()) << remedy << ": " << plan.status() << "\nof\n" << refusal;
    ++tried;
  }
  return tried;
}

TEST(PlanPropertyTest, PlansKeepTheirPromises) {
  Random random(11);
  Case c;
  int planned = 0, compared = 0, refused = 0, remedies = 0, offloaded = 0, rounds = Rounds(10000);
  for (int round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
    if (round % 20 == 0) SetModel(random, 12, c);
    SetFleet(random, 8, c);
    std::optional<Plan> best;
    for (const char* policy : kPolicies) {
      c.options.device_map = policy;
      SCOPED_TRACE(absl::StrCat("round ", round, ", ", policy, ": ", c.Text()));
      // A refusal takes a hundred plans, to find what would help: a few of them are enough.
      const bool explained = round % 50 == 0;
      const absl::StatusOr<Plan> plan = explained ? c.Make() : MakePlan(c.spec, c.devices, c.options);
      if (!plan.ok()) {
        ++refused;
        Case slower = c;
        slower.options.offload_to_disk = true;
        if (const absl::StatusOr<Plan> offload =
                round % 16 == 0 ? MakePlan(slower.spec, slower.devices, slower.options) : plan.status();
            offload.ok()) {
          CheckPlan(c.spec, *offload);
          EXPECT_GT(offload->offloaded_to_disk, 0);
          ++offloaded;
        }
        ASSERT_THAT(plan.status().code(),
                    testing::AnyOf(absl::StatusCode::kFailedPrecondition, absl::StatusCode::kInvalidArgument,
                                   absl::StatusCode::kUnimplemented))
            << plan.status();
        if (explained) remedies += CheckRemedies(c, plan.status().message());
        if (!explained && std::string(policy) == "auto") break;
        continue;
      }
      ++planned;
      CheckPlan(c.spec, *plan);
      if (round % 10 == 0) CheckTexts(*plan);
      if (round % 10 == 1) CheckOrder(random, c, *plan);
      if (round % 10 == 3 && plan->kv_blocks > 0) CheckAdvice(c, *plan);
      if (std::string(policy) == "auto") {
        best = *plan;
        if (round % 10 == 2) {
          ASSERT_EQ(PlanJson(*c.Make()), PlanJson(*plan)) << "the same, twice";
        }
        continue;
      }
      ASSERT_TRUE(best.has_value()) << "fits, and auto does not";
      ++compared;
      ASSERT_GE(best->kv_blocks, plan->kv_blocks) << PlanTable(*best, false) << PlanTable(*plan, false);
      if (best->kv_blocks > plan->kv_blocks) continue;
      ASSERT_LE(Fullest(*best), Fullest(*plan)) << PlanTable(*best, false) << PlanTable(*plan, false);
    }
  }
  RecordProperty("plans", planned);
  RecordProperty("refusals", refused);
  EXPECT_GT(planned, 2 * rounds);
  EXPECT_GT(compared, rounds);
  EXPECT_GT(refused, rounds / 20);
  EXPECT_GT(remedies, rounds / 200);
  EXPECT_GT(offloaded, rounds / 1000);
}

// A cut's sums, from what modules, steps and handing over are said to take.
class AllCuts {
 public:
  explicit AllCuts(const Case& c)
      : c_(c),
        index_(c.spec.modules),
        budgets_(*MakeBudgets(c.devices, c.options.max_memory)),
        weights_only_(c.options.kv_cache_tokens == 0) {
    const UnitTable table = MakeUnitTable(c.spec, index_);
    unit_bytes_.resize(table.count());
    for (size_t i = 0; i < table.parts.size(); ++i) {
      (table.unit_of_part[i] < 0 ? idle_bytes_ : unit_bytes_[table.unit_of_part[i]]) +=
          index_.node(table.parts[i]).bytes;
    }
    // In order: the embeddings, layers, final norm, what no unit needs (the rotary tables, behind the norm), head.
    std::vector<int> cut;
    Grow(cut);
  }

  struct Sum {
    int64_t fixed = 0, block = 0;
  };
  // By cut, then by device.
  const std::vector<std::vector<Sum>>& sums() const { return sums_; }

  int64_t MostBlocks(int64_t wanted) const {
    int64_t most = -1;
    for (const std::vector<Sum>& cut : sums_) {
      int64_t blocks = wanted;
      for (size_t d = 0; d < cut.size(); ++d) {
        const int64_t left = budgets_.bytes[d] - cut[d].fixed;
        blocks = std::min(blocks, left < 0 ? -1 : cut[d].block == 0 ? wanted : left / cut[d].block);
      }
      most = std::max(most, blocks);
    }
    return most;
  }
  double LeastFullest(int64_t blocks) const {
    double least = std::numeric_limits<double>::infinity();
    for (const std::vector<Sum>& cut : sums_) {
      double fullest = 0;
      for (size_t d = 0; d < cut.size(); ++d) {
        const int64_t bytes = cut[d].fixed + blocks * cut[d].block;
        if (bytes > 0) fullest = std::max(fullest, static_cast<double>(bytes) / static_cast<double>(budgets_.bytes[d]));
      }
      least = std::min(least, fullest);
    }
    return least;
  }

 private:
  void Grow(std::vector<int>& cut) {
    const int norm = static_cast<int>(c_.spec.layers.size()) + 1;
    const int first = cut.empty() ? 0 : cut.back();
    if (static_cast<int>(cut.size()) == norm + 3) return Add(cut);
    for (int d = first; d < static_cast<int>(c_.devices.size()); ++d) {
      if (budgets_.bytes[d] == 0) continue;
      cut.push_back(d);
      Grow(cut);
      cut.pop_back();
    }
    if (static_cast<int>(cut.size()) == norm + 2 && c_.spec.tied_head &&
        cut.front() < cut.back()) {  // the head goes back
      cut.push_back(cut.front());
      Add(cut);
      cut.pop_back();
    }
  }

  void Add(const std::vector<int>& cut) {
    const int layers = static_cast<int>(c_.spec.layers.size());
    std::vector<std::vector<int>> units(c_.devices.size());
    std::vector<Sum> sum(c_.devices.size());
    for (int i = 0; i < static_cast<int>(cut.size()); ++i) {
      if (i == layers + 2) {
        sum[cut[i]].fixed += idle_bytes_;
        continue;
      }
      const int unit = i > layers + 2 ? i - 1 : i;
      sum[cut[i]].fixed += unit_bytes_[unit];
      units[cut[i]].push_back(unit);
      if (unit >= 1 && unit <= layers && !weights_only_)
        sum[cut[i]].block += kBlockTokens * LayerKvBytesPerToken(c_.spec, c_.options);
    }
    if (c_.spec.tied_head && cut.back() != cut.front())
      sum[cut.back()].fixed += c_.spec.vocab_size * c_.spec.hidden_size * DTypeBytes(c_.options.dtype);
    const auto used =
        std::count_if(units.begin(), units.end(), [](const std::vector<int>& held) { return !held.empty(); });
    for (size_t d = 0; d < units.size() && !weights_only_; ++d) {
      if (units[d].empty()) continue;
      sum[d].fixed += ActivationBytes(c_.spec, units[d], c_.options, c_.devices[d].kind) +
                      HandoffBytes(c_.spec, c_.options, static_cast<int>(used), c_.devices[d].kind) +
                      ReserveBytes(c_.devices[d]) +
                      (c_.devices[d].kind == DeviceKind::kCuda ? SmallWeightBytes(c_.spec) : 0);
    }
    sums_.push_back(std::move(sum));
  }

  const Case& c_;
  const ModuleIndex index_;
  const Budgets budgets_;
  const bool weights_only_;
  std::vector<int64_t> unit_bytes_;
  int64_t idle_bytes_ = 0;
  std::vector<std::vector<Sum>> sums_;
};

TEST(PlanPropertyTest, AutoIsTheBestOfAllCuts) {
  Random random(12);
  Case c;
  int fitting = 0, refused = 0;
  for (int round = 0; round < Rounds(3000) && !testing::Test::HasFailure(); ++round) {
    if (round % 10 == 0) SetModel(random, 4, c);
    SetFleet(random, 4, c);
    SCOPED_TRACE(absl::StrCat("round ", round, ": ", c.Text()));
    if (std::all_of(c.options.max_memory.begin(), c.options.max_memory.end(),
                    [](const auto& entry) { return entry.second == 0; }))
      c.options.max_memory.clear();
    const AllCuts cuts(c);
    const int64_t per_sequence = BlocksFor(c.options.max_model_len);
    const bool open = c.options.kv_cache_tokens < 0;
    const int64_t least = open ? per_sequence : BlocksFor(c.options.kv_cache_tokens);
    const int64_t most = cuts.MostBlocks(open ? per_sequence * c.options.max_num_seqs : least);
    const absl::StatusOr<Plan> plan = MakePlan(c.spec, c.devices, c.options);
    if (most < least) {
      ASSERT_EQ(plan.status().code(), absl::StatusCode::kFailedPrecondition) << plan.status();
      ++refused;
      continue;
    }
    ASSERT_TRUE(plan.ok()) << plan.status();
    ASSERT_EQ(plan->kv_blocks, most);
    ASSERT_EQ(Fullest(*plan), cuts.LeastFullest(most)) << PlanTable(*plan, false);
    ++fitting;
  }
  EXPECT_GT(fitting, 2000);
  EXPECT_GT(refused, 50);
}

}  // namespace
}  // namespace causeway
