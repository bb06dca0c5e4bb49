#include "server/rpc/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/rpc/serving.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

constexpr char kNear[] = "ipv4:127.0.0.1:5", kFar[] = "ipv4:10.0.0.1:5";
constexpr Method kGeneration[] = {Method::kGenerate, Method::kGenerateStream, Method::kTokenize, Method::kDetokenize};
constexpr Method kHealth[] = {Method::kHealthCheck, Method::kHealthWatch};
constexpr Method kAdmin[] = {Method::kGetModel, Method::kGetPlan, Method::kGetStatus,          Method::kWatchStatus,
                             Method::kCancel,   Method::kDrain,   Method::kExtractLayerOutputs};
constexpr Method kNewWork[] = {Method::kGenerate, Method::kGenerateStream, Method::kExtractLayerOutputs};
constexpr Method kOfTheModel[] = {Method::kTokenize, Method::kDetokenize, Method::kGetModel, Method::kCancel};
constexpr Method kInEveryState[] = {Method::kGetPlan, Method::kGetStatus,   Method::kWatchStatus,
                                    Method::kDrain,   Method::kHealthCheck, Method::kHealthWatch};

class GateTest : public ::testing::Test {
 protected:
  absl::Status Ask(Method method, const char* peer = kNear) { return gate_.Admit(method, peer).status(); }

  Serving serving_{};
  ServingState state_;
  Gate gate_{state_};
};

TEST_F(GateTest, AdminIsForThisMachine) {
  state_.Publish(&serving_);
  for (const Method method : kAdmin) {
    EXPECT_TRUE(Ask(method).ok());
    const absl::Status refused = Ask(method, kFar);
    EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(refused.message()), HasSubstr("this one is ipv4:10.0.0.1:5"));
  }
  for (const Method method : kGeneration) EXPECT_TRUE(Ask(method, kFar).ok());
  for (const Method method : kHealth) EXPECT_TRUE(Ask(method, kFar).ok());
}

TEST_F(GateTest, WhileLoadingOnlyWhatNeedsNoModelIsAnswered) {
  for (const Method method : kNewWork) EXPECT_EQ(Ask(method).code(), absl::StatusCode::kUnavailable);
  for (const Method method : kOfTheModel) EXPECT_THAT(std::string(Ask(method).message()), HasSubstr("still loading"));
  for (const Method method : kInEveryState) EXPECT_TRUE(Ask(method).ok());
  // A caller who may not call at all is not told the daemon's state.
  EXPECT_EQ(Ask(Method::kGetModel, kFar).code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(GateTest, WhileDrainingNoNewWorkBegins) {
  state_.Publish(&serving_);
  state_.Drain();
  for (const Method method : kNewWork) EXPECT_THAT(std::string(Ask(method).message()), HasSubstr("is draining"));
  for (const Method method : kOfTheModel) EXPECT_TRUE(Ask(method).ok());
  for (const Method method : kInEveryState) EXPECT_TRUE(Ask(method).ok());
}

TEST_F(GateTest, GivesTheModelToWhatNeedsOne) {
  state_.Publish(&serving_);
  const absl::StatusOr<Caller> caller = gate_.Admit(Method::kTokenize, kFar);
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(caller->peer, kFar);
  EXPECT_EQ(caller->serving, &serving_);
  EXPECT_EQ(gate_.Admit(Method::kGetStatus, kNear)->serving, nullptr);
}

}  // namespace
}  // namespace causeway
