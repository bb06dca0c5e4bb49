#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/limits.h"
#include "engine/plan/plan.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

TEST(PlanOptionsTest, SizesOfTheKvCacheAsAsked) {
  const ModelSpec spec = TestLlama({.layers = 4});
  const std::vector<Device> devices = TestDevices({64 * kMiB});
  PlanOptions options = TestOptions("auto");
  options.kv_cache_tokens = 300;
  EXPECT_EQ(MakePlan(spec, devices, options)->kv_blocks, 19);
  options.kv_cache_tokens = 255;
  EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kOk), "")
      << "16 blocks hold one sequence of 256";
  options.kv_cache_tokens = 240;
  EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kInvalidArgument),
              AllOf(HasSubstr("240 tokens"), HasSubstr("256")));
  options.kv_cache_bytes = 1000;
  EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kInvalidArgument),
              HasSubstr("one of them"));
  options.kv_cache_tokens = -1;
  EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kInvalidArgument),
              HasSubstr("cannot hold one sequence"));
  options.kv_cache_bytes = 20 * 16 * 256 + 17;
  EXPECT_EQ(MakePlan(spec, devices, options)->kv_blocks, 20);
  // A plan's own options give the same plan.
  const absl::StatusOr<Plan> plan = MakePlan(spec, devices, options);
  EXPECT_EQ(PlanJson(*MakePlan(spec, devices, plan->options)), PlanJson(*plan));
}

TEST(PlanOptionsTest, OptionsThatContradictTheModel) {
  const ModelSpec spec = TestLlama({});
  const std::vector<Device> devices = TestDevices({16 * kMiB});
  auto error = [&](auto set) {
    PlanOptions options = TestOptions("auto");
    set(options);
    return PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kInvalidArgument);
  };
  EXPECT_THAT(error([](PlanOptions& o) { o.max_model_len = 257; }), AllOf(HasSubstr("257"), HasSubstr("256")));
  EXPECT_THAT(error([](PlanOptions& o) { o.max_model_len = -1; }), HasSubstr("max_model_len is -1"));
  EXPECT_THAT(error([](PlanOptions& o) { o.max_num_seqs = 0; }), HasSubstr("max_num_seqs is 0"));
  EXPECT_THAT(error([](PlanOptions& o) { o.max_num_batched_tokens = 0; }), HasSubstr("max_num_batched_tokens"));
  EXPECT_THAT(error([](PlanOptions& o) { o.max_model_len = 1; }), HasSubstr("max_model_len is 1; expected 2 to"));
  EXPECT_THAT(error([](PlanOptions& o) { o.max_num_seqs = 100, o.max_num_batched_tokens = 99; }),
              HasSubstr("max_num_batched_tokens is 99; expected at least max_num_seqs, 100"));
  EXPECT_THAT(error([](PlanOptions& o) { o.kv_cache_tokens = -2; }), HasSubstr("kv_cache_tokens"));
  EXPECT_THAT(error([](PlanOptions& o) { o.max_num_seqs = int64_t{1} << 40; }), HasSubstr("max_num_seqs"));
  EXPECT_THAT(error([](PlanOptions& o) { o.kv_cache_tokens = int64_t{1} << 60; }),
              AllOf(HasSubstr("exabyte"), HasSubstr("lower kv_cache")));
  EXPECT_THAT(error([](PlanOptions& o) { o.kv_cache_bytes = std::numeric_limits<int64_t>::max(); }),
              AllOf(HasSubstr("exabyte"), HasSubstr("lower kv_cache")));
  EXPECT_EQ(MakePlan(spec, {}, TestOptions("auto")).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakePlan(spec, {devices[0], devices[0]}, TestOptions("auto")).status().code(),
            absl::StatusCode::kInvalidArgument);
}
TEST(PlanOptionsTest, AContextBeyondWhatIsServedIsCutUnlessAskedFor) {
  const ModelSpec spec = TestLlama({.context = int64_t{1} << 30});
  PlanOptions options = TestOptions("auto");
  const absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({int64_t{1} << 40}), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->options.max_model_len, kModelLenMax);
  options.max_model_len = int64_t{1} << 30;
  EXPECT_THAT(PlanRefusal(MakePlan(spec, TestDevices({int64_t{1} << 40}), options), absl::StatusCode::kInvalidArgument),
              HasSubstr("max_model_len is 1073741824"));
}

}  // namespace
}  // namespace causeway
