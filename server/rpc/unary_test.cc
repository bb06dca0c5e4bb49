// Tests what happens to a unary call that does not get its normal answer, over a real connection.
#include "server/rpc/unary.h"

#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "causeway/v1/generation.grpc.pb.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using v1::Generation;

class UnaryTest : public ::testing::Test, public Generation::WithRawCallbackMethod_Tokenize<Generation::Service> {
 protected:
  UnaryTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    stub_ =
        Generation::NewStub(grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }
  ~UnaryTest() override { server_->Shutdown(); }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override {
    UnaryOptions options{.sent = [this] { ++sent_; }};
    if (busy_) options.workers = &workers_;
    const auto handler = [this](RpcContext&, const Caller&, const v1::TokenizeRequest&) {
      ++handled_;
      return answer_;
    };
    held_ = call;
    return AnswerUnary<v1::TokenizeRequest>(context_, {method_, call, request, response}, handler, std::move(options));
  }

  grpc::Status Call() {
    grpc::ClientContext call;
    v1::TokenizeResponse response;
    return stub_->Tokenize(&call, {}, &response);
  }
  // The worker waits for the notification.
  void Block() {
    busy_ = true;
    ASSERT_TRUE(workers_.Push(0, [this] { unblocked_.WaitForNotification(); }).ok());
  }

  RpcContext context_;
  absl::Notification unblocked_;
  PrepareWorkers workers_{1, "tests"};
  std::atomic<bool> busy_{false};
  std::atomic<int> handled_{0}, sent_{0};
  std::atomic<grpc::CallbackServerContext*> held_{nullptr};  // valid until the call is done
  Method method_ = Method::kHealthCheck;
  absl::StatusOr<v1::TokenizeResponse> answer_ = v1::TokenizeResponse();
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Generation::Stub> stub_;
};

TEST_F(UnaryTest, IsToldWhenAnAnswerHasBeenSent) {
  EXPECT_TRUE(Call().ok());
  server_->Shutdown();  // waits for the call's end
  EXPECT_EQ(handled_, 1);
  EXPECT_EQ(sent_, 1);
}

TEST_F(UnaryTest, WhatTheGateRefusesIsNotHandled) {
  method_ = Method::kTokenize;  // which needs a model; none is there
  EXPECT_EQ(Call().error_code(), grpc::StatusCode::UNAVAILABLE);
  server_->Shutdown();
  EXPECT_EQ(handled_, 0);
  EXPECT_EQ(sent_, 0);
}

TEST_F(UnaryTest, AnErrorIsAnsweredAndNotCountedAsSent) {
  answer_ = absl::NotFoundError("no such thing");
  const grpc::Status status = Call();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no such thing");
  server_->Shutdown();
  EXPECT_EQ(sent_, 0);
}

TEST_F(UnaryTest, WhereTooMuchWaitsForTheWorkersItIsRefused) {
  Block();
  ASSERT_TRUE(workers_.Push(64 << 20, [] {}).ok());
  const grpc::Status status = Call();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("the queue of tests is full"));
  unblocked_.Notify();
  EXPECT_EQ(handled_, 0);
}

TEST_F(UnaryTest, WhatWasGivenUpMeanwhileIsNotBegun) {
  Block();
  grpc::ClientContext call;
  std::thread client([&] {
    v1::TokenizeResponse response;
    EXPECT_EQ(stub_->Tokenize(&call, {}, &response).error_code(), grpc::StatusCode::CANCELLED);
  });
  const absl::Time give_up = absl::Now() + absl::Seconds(20);
  while (held_ == nullptr && absl::Now() < give_up) std::this_thread::yield();
  ASSERT_NE(held_, nullptr);
  call.TryCancel();
  client.join();
  while (!held_.load()->IsCancelled() && absl::Now() < give_up) std::this_thread::yield();
  unblocked_.Notify();
  server_->Shutdown();
  EXPECT_EQ(handled_, 0);
}

}  // namespace
}  // namespace causeway
