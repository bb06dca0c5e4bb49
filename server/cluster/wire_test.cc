#include "server/cluster/wire.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/cluster/remote_constraint.h"
#include "server/cluster/wire_rows.h"
#include "server/cluster/wire_testing.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::shared_ptr<LayerOutputs> MakeOutputs(std::vector<int> units, int64_t rows, int64_t width) {
  auto outputs = std::make_shared<LayerOutputs>(LayerOutputs{.units = std::move(units), .rows = rows, .width = width});
  outputs->values = std::make_unique<float[]>(outputs->units.size() * rows * width);
  return outputs;
}

LocalParts Parts() {
  return {.constraint = [](uint64_t) { return std::make_shared<RemoteConstraint>(); },
          .layer_outputs =
              [](uint64_t, std::vector<int> units, int64_t rows, int64_t width) {
                return std::make_shared<LayerOutputs>(
                    LayerOutputs{.units = std::move(units), .rows = rows, .width = width});
              }};
}

// Every field differs from its default and from its neighbours.
StepPlan FullPlan() {
  auto start = std::make_shared<SequenceStart>();
  start->sampling = {.temperature = 0.5,
                     .top_k = 7,
                     .top_p = 0.75,
                     .min_p = 0.125,
                     .typical_p = 0.25,
                     .repetition_penalty = 1.5,
                     .presence_penalty = -0.5,
                     .frequency_penalty = 1.25,
                     .logit_bias = {{3, -2.5f}, {9, 100.f}},
                     .seed = 1ull << 63,
                     .logprobs = true,
                     .top_logprobs = 4,
                     .prompt_logprobs = true};
  start->min_tokens = 11;
  start->stop_token_ids = {2, 5};
  start->tokens = {21, 22, 23, 24};
  start->prompt_tokens = 3;
  StepPlan plan{.step = 17, .tokens = 3, .prefill_tokens = 2};
  plan.sequences.push_back({.sequence = (1ull << 63) + 5,
                            .slot = 6,
                            .tokens = {31, 32, kPlaceholderToken},
                            .context = 64,
                            .block_table = {41, 40, 43},
                            .sample = true,
                            .targets = {32},
                            .all_logits = true,
                            .generated = 12,
                            .start = start});
  plan.sequences[0].local.constraint = std::make_shared<RemoteConstraint>();
  plan.sequences[0].local.layer_outputs = MakeOutputs({0, 3}, 66, 8);
  return plan;
}

SampledToken FullSampled(uint64_t sequence) {
  return {.sequence = sequence,
          .outcome = SampledToken::Outcome::kFailed,
          .status = absl::DataLossError("a name \xff that is no UTF-8"),
          .token = 13,
          .logprob = -1.5f,
          .top_logprobs = {{13, -1.5f}, {14, -2.5f}}};
}

StepResult FullResult() {
  return {.step = 17,
          .rows = 3,
          .prefill_rows = 2,
          .sequences = 1,
          .status = absl::AbortedError("aborted"),
          .device_failure = absl::InternalError("cuda:1 is gone"),
          .tokens = {FullSampled(5), {.sequence = 6}},
          .prompt = {FullSampled(7)},
          .logits = {{0.5f, -3}, {1}},
          .seconds = 0.25};
}

std::string ErrorOf(const v1::Step& wire) {
  const absl::Status status = FromWire(wire, Parts()).status();
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

TEST(Wire, AStepComesBackWithEveryField) {
  const v1::Step wire = ToWire(FullPlan());
  // They come with GatheredRows that hold values, and with none in a step.
  EXPECT_THAT(testing::UnsetFields(wire), UnorderedElementsAre("GatheredRows.first_row", "GatheredRows.values"));
  v1::Step parsed;
  ASSERT_TRUE(parsed.ParseFromString(wire.SerializeAsString()));
  std::vector<uint64_t> constrained;
  LocalParts parts = Parts();
  parts.constraint = [&constrained](uint64_t sequence) {
    constrained.push_back(sequence);
    return std::make_shared<RemoteConstraint>();
  };
  const absl::StatusOr<StepPlan> plan = FromWire(parsed, parts);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(ToWire(*plan).SerializeAsString(), wire.SerializeAsString());
  EXPECT_THAT(constrained, ElementsAre((1ull << 63) + 5));
  const StepSequence& sequence = plan->sequences[0];
  EXPECT_THAT(sequence.tokens, ElementsAre(31, 32, kPlaceholderToken));
  EXPECT_THAT(sequence.start->sampling.logit_bias, ElementsAre(std::pair(3, -2.5f), std::pair(9, 100.f)));
  EXPECT_THAT(sequence.local.layer_outputs->units, ElementsAre(0, 3));
}

TEST(Wire, ASequenceWithoutStartAndOutputsHasNoneThere) {
  StepPlan plan = FullPlan();
  plan.sequences[0].start = nullptr;  // its constraint is then none that the step speaks of
  plan.sequences[0].local.layer_outputs = nullptr;
  LocalParts none;  // calling them would throw
  const absl::StatusOr<StepPlan> back = FromWire(ToWire(plan), none);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->sequences[0].start, nullptr);
  EXPECT_EQ(back->sequences[0].local.constraint, nullptr);
}

TEST(Wire, AStepThatCannotBeIsRefusedByItsField) {
  const v1::Step good = ToWire(FullPlan());
  ASSERT_EQ(ErrorOf(good), "");
  const auto broken = [&good](const std::function<void(v1::Step&, v1::StepSequence&)>& breaks) {
    v1::Step wire = good;
    breaks(wire, *wire.mutable_sequences(0));
    return ErrorOf(wire);
  };
  EXPECT_EQ(broken([](auto& w, auto& s) { w.set_tokens(4); }), "tokens: expected 3, found 4");
  EXPECT_THAT(broken([](auto& w, auto& s) { w.set_prefill_tokens(4); }),
              HasSubstr("prefill_tokens: expected a number"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.set_slot(-1); }), HasSubstr("sequences[0].slot"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.clear_tokens(); }), HasSubstr("sequences[0].tokens: their number"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.set_tokens(0, -1); }), HasSubstr("sequences[0].tokens: expected"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.set_tokens(2, -2); }), HasSubstr("from -1 to 2147483647, found -2"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.set_context(-1); }), HasSubstr("sequences[0].context"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.set_block_table(1, -7); }), HasSubstr("block_table: expected"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.mutable_targets()->Resize(4, 1); }), HasSubstr("targets"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.set_generated(-1); }), HasSubstr("generated"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.clear_start(); }), HasSubstr("constrained"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.mutable_start()->set_prompt_tokens(5); }),
              HasSubstr("start.prompt_tokens: expected a number from 0 to 4, found 5"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.mutable_start()->mutable_sampling()->add_bias_ids(1); }),
              HasSubstr("start.sampling.bias_values: expected 3, found 2"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.mutable_start()->mutable_sampling()->set_top_logprobs(21); }),
              HasSubstr("start.sampling.top_logprobs"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.mutable_layer_outputs()->set_units(1, 0); }),
              HasSubstr("layer_outputs.units: expected a number from 1"));
  EXPECT_THAT(broken([](auto& w, auto& s) { s.mutable_layer_outputs()->set_rows(0); }),
              HasSubstr("layer_outputs.rows"));
  EXPECT_THAT(broken([](auto& w, auto& s) {
                s.mutable_layer_outputs()->set_rows(1 << 30);
                s.mutable_layer_outputs()->set_width(1 << 30);
              }),
              HasSubstr("layer_outputs.units x rows x width"));
}

TEST(Wire, AResultComesBackWithEveryField) {
  const v1::Result wire = ToWire(FullResult());
  EXPECT_THAT(testing::UnsetFields(wire), IsEmpty());
  v1::Result parsed;
  ASSERT_TRUE(parsed.ParseFromString(wire.SerializeAsString()));
  const absl::StatusOr<StepResult> result = FromWire(parsed);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(ToWire(*result).SerializeAsString(), wire.SerializeAsString());
  EXPECT_EQ(result->tokens[0].status, absl::DataLossError("a name \xff that is no UTF-8"));
  EXPECT_EQ(result->tokens[0].outcome, SampledToken::Outcome::kFailed);
  EXPECT_EQ(result->tokens[1].status, absl::OkStatus());
}

TEST(Wire, AResultThatCannotBeIsRefusedByItsField) {
  v1::Result wire = ToWire(FullResult());
  wire.mutable_tokens(1)->set_outcome(4);
  EXPECT_EQ(FromWire(wire).status(),
            absl::InvalidArgumentError("tokens[1].outcome: expected a number from 0 to 3, found 4"));
  wire = ToWire(FullResult());
  wire.mutable_prompt(0)->add_top_ids(1);
  EXPECT_EQ(FromWire(wire).status(), absl::InvalidArgumentError("prompt[0].top_logprobs: expected 3, found 2"));
}

TEST(Wire, AStatusOfACodeThatIsNotThereIsUnknown) {
  v1::Status wire = ToWire(absl::NotFoundError("n"));
  EXPECT_EQ(FromWire(wire), absl::NotFoundError("n"));
  wire.set_code(-99);
  EXPECT_EQ(FromWire(wire).code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(FromWire(ToWire(absl::OkStatus())), absl::OkStatus());
}

TEST(Wire, AMaskComesBackWithEveryField) {
  const std::vector<uint32_t> words = {0x80000001u, 0xfffffffeu};
  const TokenMask mask{.state = TokenMask::State::kFailed, .allowed = words, .status = absl::AbortedError("why")};
  v1::StepMask wire = ToWire(2, 77, 5, mask);
  EXPECT_THAT(testing::UnsetFields(wire), IsEmpty());
  EXPECT_EQ(wire.allowed().substr(0, 4), std::string("\x01\x00\x00\x80", 4));
  const absl::StatusOr<ReceivedMask> back = FromWire(wire);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(ToWire(back->replica, back->sequence, back->index, {back->state, back->allowed, back->status})
                .SerializeAsString(),
            wire.SerializeAsString());
  EXPECT_EQ(back->allowed, words);
  wire.set_state(3);
  EXPECT_THAT(std::string(FromWire(wire).status().message()), HasSubstr("mask: state"));
  wire.set_state(0);
  wire.mutable_allowed()->pop_back();
  EXPECT_EQ(FromWire(wire).status(), absl::InvalidArgumentError("mask: bytes of allowed: expected 4, found 7"));
}

// Bytes of whole messages are changed, and those that still parse are converted: they are right or refused.
TEST(Wire, BrokenBytesAreRefusedOrHarmless) {
  std::mt19937 random(1);
  int taken = 0, refused = 0;
  const auto count = [&](const absl::Status& status) {
    ASSERT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
    ++(status.ok() ? taken : refused);
  };
  const std::string step = ToWire(FullPlan()).SerializeAsString(), result = ToWire(FullResult()).SerializeAsString();
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = round % 2 == 0 ? step : result;
    for (uint32_t changes = 1 + random() % 3; changes > 0; --changes) bytes[random() % bytes.size()] = random();
    v1::Step broken_step;
    v1::Result broken_result;
    if (round % 2 == 0 && broken_step.ParseFromString(bytes)) count(FromWire(broken_step, Parts()).status());
    if (round % 2 == 1 && broken_result.ParseFromString(bytes)) count(FromWire(broken_result).status());
  }
  EXPECT_GT(taken, 100);
  EXPECT_GT(refused, 100);
}

TEST(WireRows, RowsThatAStepGatheredComeToTheSamePlace) {
  StepSequence sequence{.sequence = 9, .tokens = {1, 2, 3}, .context = 2};
  sequence.local.layer_outputs = MakeOutputs({0, 3, 5}, 4, 2);  // row 4 is of a generated token
  for (int i = 0; i < 3 * 4 * 2; ++i) sequence.local.layer_outputs->values[i] = i + 1;
  const v1::GatheredRows wire = RowsOf(sequence, {3, 4, 5});
  EXPECT_THAT(testing::UnsetFields(wire), IsEmpty());
  const std::shared_ptr<LayerOutputs> outputs = MakeOutputs({0, 3, 5}, 4, 2);
  ASSERT_EQ(CopyRows(wire, *outputs), absl::OkStatus());
  EXPECT_THAT(std::vector<float>(outputs->values.get(), outputs->values.get() + 24),
              ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 14, 15, 16, 0, 0, 0, 0, 21, 22, 23, 24));
  sequence.context = 5;  // behind the prompt
  EXPECT_EQ(RowsOf(sequence, {3}).units_size(), 0);
  EXPECT_EQ(CopyRows(RowsOf(sequence, {3}), *outputs), absl::OkStatus());
}

TEST(WireRows, RowsThatDoNotFitAreRefused) {
  StepSequence sequence{.tokens = {1, 2}, .context = 1};
  sequence.local.layer_outputs = MakeOutputs({3, 5}, 3, 2);
  const v1::GatheredRows good = RowsOf(sequence, {3, 5});
  const auto broken = [&](const std::function<void(v1::GatheredRows&)>& breaks) {
    v1::GatheredRows wire = good;
    breaks(wire);
    const absl::Status status = CopyRows(wire, *sequence.local.layer_outputs);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(broken([](auto& w) { w.set_width(3); }), HasSubstr("layer_outputs.width: expected 2, found 3"));
  EXPECT_THAT(broken([](auto& w) { w.set_first_row(-1); }), HasSubstr("layer_outputs.first_row"));
  EXPECT_THAT(broken([](auto& w) { w.set_first_row(2); }),
              HasSubstr("layer_outputs.rows: expected a number from 0 to 1"));
  EXPECT_THAT(broken([](auto& w) { w.set_rows(int64_t{1} << 62); }), HasSubstr("layer_outputs.rows"));
  EXPECT_THAT(broken([](auto& w) { w.set_units(0, 4); }), HasSubstr("layer_outputs.units: nobody asked for unit 4"));
  EXPECT_THAT(broken([](auto& w) { w.add_units(3); }), HasSubstr("layer_outputs.units: their number"));
  EXPECT_THAT(broken([](auto& w) { w.mutable_values()->pop_back(); }), HasSubstr("expected 32, found 31"));
}

}  // namespace
}  // namespace causeway
