// Tests which request ends when a client goes away.
#include "server/rpc/generation_call.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "server/rpc/fake_engine.h"
#include "server/rpc/wire.h"

namespace causeway {
namespace {

class NullSink : public TokenSink {
 public:
  void OnDelta(GenerationDelta) override {}
  void OnEnd(GenerationEnd) override {}
};

class GenerationCallTest : public ::testing::Test {
 protected:
  GenerationCallTest() : metrics_("fake", 64, "test", "cpu"), serving_{&engine_, "fake", {}} {
    context_.metrics = &metrics_;
    context_.state.Publish(&serving_);
  }
  absl::Status Submit(GenerationCall& call, const std::string& id) {
    v1::GenerateRequest request;
    request.set_request_id(id);
    request.mutable_tokens()->add_ids(5);
    absl::Status submitted = absl::UnknownError("not prepared at once");
    call.Prepare(WriteMessage(request), [&](absl::StatusOr<PreparedRequest> prepared) {
      EXPECT_TRUE(prepared.ok()) << prepared.status();
      submitted = call.Submit(std::move(prepared->request), std::make_shared<NullSink>());
    });
    return submitted;
  }

  FakeEngine engine_;
  Metrics metrics_;
  Serving serving_;
  RpcContext context_;
  const grpc::CallbackServerContext client_;
};

TEST_F(GenerationCallTest, TakesItsOwn) {
  GenerationCall call(context_, Method::kGenerate, client_);
  ASSERT_TRUE(Submit(call, "r").ok());
  call.OnCancel();
  EXPECT_FALSE(engine_.IsRunning("r"));
}

TEST_F(GenerationCallTest, TakesItsOwnAlsoWhenItGoesBeforeTheRequestIsIn) {
  GenerationCall call(context_, Method::kGenerate, client_);
  call.OnCancel();
  ASSERT_TRUE(Submit(call, "r").ok());
  EXPECT_FALSE(engine_.IsRunning("r"));
}

TEST_F(GenerationCallTest, LeavesTheOneThatHasTheIdAlready) {
  GenerationCall first(context_, Method::kGenerate, client_), second(context_, Method::kGenerate, client_);
  ASSERT_TRUE(Submit(first, "r").ok());
  EXPECT_EQ(Submit(second, "r").code(), absl::StatusCode::kAlreadyExists);
  second.OnCancel();
  EXPECT_TRUE(engine_.IsRunning("r"));
}

TEST_F(GenerationCallTest, LeavesTheOneThatGotTheIdAfterwards) {
  GenerationCall first(context_, Method::kGenerate, client_), second(context_, Method::kGenerate, client_);
  ASSERT_TRUE(Submit(first, "r").ok());
  ASSERT_TRUE(engine_.Finish("r", FakeEngine::End(FinishReason::kStop)));
  ASSERT_TRUE(Submit(second, "r").ok());
  first.OnCancel();
  EXPECT_TRUE(engine_.IsRunning("r"));
}

// An empty message that came differs from no message.
TEST_F(GenerationCallTest, ACallWhoseMessageNeverCameIsNotCounted) {
  GenerationCall given_up(context_, Method::kGenerate, client_), empty(context_, Method::kGenerate, client_);
  const auto refused = [](GenerationCall& call, const grpc::ByteBuffer& bytes) {
    grpc::Status status;
    call.Prepare(bytes, [&](absl::StatusOr<PreparedRequest> prepared) { status = call.Refuse(prepared.status()); });
    return status.error_code();
  };
  EXPECT_EQ(refused(given_up, grpc::ByteBuffer()), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(metrics_.Outcomes().at("invalid") + metrics_.Outcomes().at("cancelled"), 0);
  EXPECT_EQ(refused(empty, WriteMessage(v1::GenerateRequest())), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(metrics_.Outcomes().at("invalid"), 1);
}

}  // namespace
}  // namespace causeway
