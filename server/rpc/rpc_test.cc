// Tests the services through real stubs over loopback, with an engine that does what the test says.
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "engine/base/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/rpc/convert.h"
#include "server/rpc/fake_engine.h"
#include "server/rpc/limits.h"
#include "server/rpc/peer.h"
#include "server/rpc/rpc_server.h"
#include "server/rpc/status_map.h"

namespace causeway {
namespace {

using grpc::health::v1::HealthCheckResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(StatusMap, KeepsCodeAndMessageAndSaysWhenToRetry) {
  const grpc::Status invalid = ToGrpcStatus(absl::InvalidArgumentError("n is 17"));
  EXPECT_EQ(invalid.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(invalid.error_message(), "n is 17");
  EXPECT_TRUE(invalid.error_details().empty());
  const grpc::Status full = ToGrpcStatus(absl::ResourceExhaustedError("the queue is full"));
  EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(full.error_details()));
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(0).UnpackTo(&retry));
  EXPECT_GT(retry.retry_delay().seconds(), 0);
  // This is too long for a header. It is cut between characters.
  const grpc::Status cut = ToGrpcStatus(absl::InternalError(std::string(2, 'x') + [] {
    std::string text;
    for (int i = 0; i < 2000; ++i) text += "\u00e9";
    return text;
  }()));
  EXPECT_LE(cut.error_message().size(), kStatusMessageBytesMax);
  EXPECT_THAT(cut.error_message(), ::testing::EndsWith("\u00e9..."));
}

TEST(StatusMap, GivesEachRefusalOneOutcome) {
  EXPECT_EQ(OutcomeOf(absl::ResourceExhaustedError("")), Outcome::kRejected);
  EXPECT_EQ(OutcomeOf(absl::UnavailableError("")), Outcome::kRejected);
  EXPECT_EQ(OutcomeOf(absl::InvalidArgumentError("")), Outcome::kInvalid);
  EXPECT_EQ(OutcomeOf(absl::UnimplementedError("")), Outcome::kInvalid);
  EXPECT_EQ(OutcomeOf(absl::NotFoundError("")), Outcome::kInvalid);
  EXPECT_EQ(OutcomeOf(absl::AlreadyExistsError("")), Outcome::kInvalid);
  EXPECT_EQ(OutcomeOf(absl::InternalError("")), Outcome::kError);
}

TEST(Convert, TheLeastWantedReasonIsTheOutcome) {
  GenerationEnd end = FakeEngine::End(FinishReason::kStop, 3);
  EXPECT_EQ(OutcomeOf(end), Outcome::kStop);
  end.choices[1].reason = FinishReason::kLength;
  EXPECT_EQ(OutcomeOf(end), Outcome::kLength);
  end.choices[2].reason = FinishReason::kCancelled;
  EXPECT_EQ(OutcomeOf(end), Outcome::kCancelled);
  end.choices[0].reason = FinishReason::kDeadline;
  EXPECT_EQ(OutcomeOf(end), Outcome::kDeadline);
  end.status = absl::InternalError("");
  EXPECT_EQ(OutcomeOf(end), Outcome::kError);
  end.status = absl::ResourceExhaustedError("");
  EXPECT_EQ(OutcomeOf(end), Outcome::kRejected);
}

TEST(Peer, KnowsLoopback) {
  for (const char* peer : {"ipv4:127.0.0.1:5", "ipv4:127.8.0.1:5", "ipv6:[::1]:5", "ipv6:%5B::1%5D:5",
                           "ipv6:[::ffff:127.0.0.1]:5", "unix:/x"}) {
    EXPECT_TRUE(IsLoopback(peer)) << peer;
  }
  for (const char* peer : {"ipv4:10.0.0.1:5", "ipv4:1127.0.0.1:5", "ipv6:[fe80::1]:5", "ipv6:[::1:2]:5",
                           "ipv6:[::ffff:10.0.0.1]:5", "", "dns:127.0.0.1"}) {
    EXPECT_FALSE(IsLoopback(peer)) << peer;
  }
}

class RpcTest : public ::testing::Test {
 protected:
  RpcTest() : metrics_("fake", 64, "test", "cpu"), serving_{&engine_, "fake", {}} {
    context_.metrics = &metrics_;
    context_.plan = &plan_;
    context_.model_name = "fake";
    context_.started = absl::Now();
    context_.request_drain = [this] { drained_.Notify(); };
    server_ = *RpcServer::Start({"127.0.0.1", 0}, 1 << 20, context_);
    channel_ = grpc::CreateChannel(server_->address().ToString(), grpc::InsecureChannelCredentials());
    generation_ = v1::Generation::NewStub(channel_);
    admin_ = v1::Admin::NewStub(channel_);
    health_ = grpc::health::v1::Health::NewStub(channel_);
  }
  ~RpcTest() override {
    if (server_ != nullptr) server_->Stop(absl::ZeroDuration());
  }
  void Serve() {
    context_.state.Publish(&serving_);
    server_->SetServing(true);
  }
  static v1::GenerateRequest Request(const std::string& id) {
    v1::GenerateRequest request;
    request.set_request_id(id);
    request.mutable_tokens()->add_ids(5);
    return request;
  }
  grpc::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response) {
    grpc::ClientContext call;
    return generation_->Generate(&call, request, response);
  }
  int64_t Count(const std::string& outcome) { return metrics_.Outcomes().at(outcome); }

  FakeEngine engine_;
  Metrics metrics_;
  Plan plan_;
  Serving serving_;
  absl::Notification drained_;
  RpcContext context_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Generation::Stub> generation_;
  std::unique_ptr<v1::Admin::Stub> admin_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

TEST_F(RpcTest, GeneratesWithEverythingAskedFor) {
  Serve();
  v1::GenerateRequest request = Request("g");
  request.mutable_sampling()->set_n(2);
  request.mutable_output()->set_top_logprobs(2);
  std::thread engine([&] {
    auto sink = engine_.Sink("g");
    sink->OnDelta(FakeEngine::Delta("a", {7}, 1));
    sink->OnDelta(FakeEngine::Delta("b", {8}, 0));
    sink->OnDelta(FakeEngine::Delta("c", {9}, 1));
    GenerationEnd end = FakeEngine::End(FinishReason::kLength, 2);
    end.choices[1].reason = FinishReason::kStop;
    end.choices[1].stop_match = "!";
    end.prefill_seconds = 0.25;
    sink->OnEnd(end);
  });
  v1::GenerateResponse response;
  const grpc::Status status = Generate(request, &response);
  engine.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.request_id(), "g");
  ASSERT_EQ(response.choices_size(), 2);
  EXPECT_EQ(response.choices(0).text(), "b");
  EXPECT_EQ(response.choices(1).text(), "ac");
  EXPECT_THAT(response.choices(1).token_ids(), ElementsAre(7, 9));
  EXPECT_EQ(response.choices(1).logprobs(1).top(1).token_id(), 1);
  EXPECT_EQ(response.choices(0).finish_reason(), v1::LENGTH);
  EXPECT_EQ(response.choices(1).finish_reason(), v1::STOP);
  EXPECT_EQ(response.choices(1).stop_match(), "!");
  EXPECT_EQ(response.timing().prefill_seconds(), 0.25);
  EXPECT_EQ(Count("length"), 1);
}

TEST_F(RpcTest, RefusalsHaveCodesAndOutcomes) {
  v1::GenerateResponse response;
  EXPECT_EQ(Generate(Request("l"), &response).error_code(), grpc::StatusCode::UNAVAILABLE);  // the model is loading
  EXPECT_EQ(Count("rejected"), 1);
  Serve();
  v1::GenerateRequest request = Request("i");
  request.set_priority(5000);
  grpc::Status status = Generate(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("priority is 5000"));
  EXPECT_EQ(Count("invalid"), 1);
  engine_.RefuseWith(absl::ResourceExhaustedError("the queue is full"));
  status = Generate(Request("f"), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_FALSE(status.error_details().empty());
  EXPECT_EQ(Count("rejected"), 2);
  grpc::ClientContext call;
  auto stream = generation_->GenerateStream(&call, Request("s"));
  v1::GenerateStreamResponse event;
  EXPECT_FALSE(stream->Read(&event));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Count("rejected"), 3);
  context_.state.Drain();
  EXPECT_EQ(Generate(Request("d"), &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Count("rejected"), 4);
}

TEST_F(RpcTest, WhatTheEngineGivesUpEndsWithItsStatus) {
  Serve();
  std::thread engine([&] {
    engine_.Sink("full");
    GenerationEnd end = FakeEngine::End(FinishReason::kError);
    end.status = absl::ResourceExhaustedError("no memory left");
    engine_.Finish("full", end);
  });
  v1::GenerateResponse response;
  const grpc::Status status = Generate(Request("full"), &response);
  engine.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "no memory left");
  EXPECT_EQ(Count("rejected"), 1);
}

// Sends bytes that our own stubs could not write.
TEST_F(RpcTest, BrokenUtf8IsAnsweredByName) {
  Serve();
  const std::string bytes = "\x1a\x02\xff\xfe";  // field 3, the prompt
  grpc::Slice slice(bytes);
  grpc::ByteBuffer request(&slice, 1), response;
  const grpc::internal::RpcMethod method("/causeway.v1.Generation/Generate", grpc::internal::RpcMethod::NORMAL_RPC);
  grpc::ClientContext call;
  const grpc::Status status = grpc::internal::BlockingUnaryCall(channel_.get(), method, &call, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("causeway.v1.GenerateRequest.prompt is not valid UTF-8"));
  EXPECT_EQ(Count("invalid"), 1);

  const std::string id = "\x0a\x02\xff\xfe";  // field 1, the request's id
  grpc::Slice id_slice(id);
  grpc::ByteBuffer cancel(&id_slice, 1);
  const grpc::internal::RpcMethod admin("/causeway.v1.Admin/Cancel", grpc::internal::RpcMethod::NORMAL_RPC);
  grpc::ClientContext other;
  EXPECT_THAT(grpc::internal::BlockingUnaryCall(channel_.get(), admin, &other, cancel, &response).error_message(),
              HasSubstr("causeway.v1.CancelRequest.request_id is not valid UTF-8"));
}

TEST_F(RpcTest, AStreamBeginsAndEndsAsPromised) {
  Serve();
  grpc::ClientContext call;
  auto stream = generation_->GenerateStream(&call, Request("s"));
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_EQ(event.accepted().prompt_tokens(), 1);
  auto sink = engine_.Sink("s");
  sink->OnDelta(FakeEngine::Delta("one", {7}));
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_EQ(event.delta().text(), "one");
  sink->OnEnd(FakeEngine::End(FinishReason::kStop));
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_EQ(event.finished().choices(0).finish_reason(), v1::STOP);
  EXPECT_FALSE(stream->Read(&event));
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(Count("stop"), 1);
}

// The reader reads nothing while far more than the transport takes is generated. The engine's thread is never held up,
// and the same text arrives in fewer messages.
TEST_F(RpcTest, ASlowReaderHoldsUpNobody) {
  Serve();
  grpc::ClientContext call;
  auto stream = generation_->GenerateStream(&call, Request("slow"));
  auto sink = engine_.Sink("slow");
  const std::string piece(1024, 'x');
  constexpr int kPieces = 40'000;  // 40 MB; about 10 MB pile up in the transport
  const absl::Time start = absl::Now();
  for (int i = 0; i < kPieces; ++i) sink->OnDelta(FakeEngine::Delta(piece, {i % 100}));
  sink->OnEnd(FakeEngine::End(FinishReason::kLength));
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
  EXPECT_EQ(Count("length"), 1);  // ended for the engine, whatever the reader does
  v1::GenerateStreamResponse event;
  size_t bytes = 0;
  int deltas = 0;
  bool finished = false;
  while (stream->Read(&event)) {
    bytes += event.delta().text().size();
    deltas += event.has_delta();
    finished |= event.has_finished();
  }
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(finished);
  EXPECT_EQ(bytes, piece.size() * kPieces);
  EXPECT_LT(deltas, kPieces / 2);
}

TEST_F(RpcTest, ClosingTheStreamCancels) {
  Serve();
  grpc::ClientContext call;
  auto stream = generation_->GenerateStream(&call, Request("c"));
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(stream->Read(&event));
  call.TryCancel();
  EXPECT_TRUE(engine_.WaitUntilGone("c"));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(Count("cancelled"), 1);
}

TEST_F(RpcTest, TheDeadlineReachesTheEngineAndCountsAsOne) {
  Serve();
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  v1::GenerateResponse response;
  const grpc::Status status = generation_->Generate(&call, Request("d"), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_LT(engine_.last().deadline, Clock::Real()->Now() + absl::Seconds(1));
  EXPECT_TRUE(engine_.WaitUntilGone("d"));
  server_->Stop(absl::Seconds(5));  // the call's end is counted once the call is over
  server_.reset();
  EXPECT_EQ(Count("deadline"), 1);
  EXPECT_EQ(Count("cancelled"), 0);
}

TEST_F(RpcTest, AdminCancelsAndDrains) {
  v1::CancelRequest cancel;
  v1::CancelResponse cancelled;
  cancel.set_request_id("x");
  {
    grpc::ClientContext call;
    EXPECT_EQ(admin_->Cancel(&call, cancel, &cancelled).error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  Serve();
  std::thread caller([&] {
    v1::GenerateResponse response;
    EXPECT_EQ(Generate(Request("x"), &response).error_code(), grpc::StatusCode::CANCELLED);
  });
  engine_.Sink("x");
  grpc::ClientContext one, two, three;
  EXPECT_TRUE(admin_->Cancel(&one, cancel, &cancelled).ok());
  caller.join();
  EXPECT_EQ(admin_->Cancel(&two, cancel, &cancelled).error_code(), grpc::StatusCode::NOT_FOUND);
  v1::DrainResponse drained;
  EXPECT_TRUE(admin_->Drain(&three, v1::DrainRequest(), &drained).ok());
  EXPECT_TRUE(drained_.WaitForNotificationWithTimeout(absl::Seconds(20)));
}

TEST_F(RpcTest, ADeviceIsListedOnceWhileLoading) {
  plan_.devices.resize(1);
  plan_.devices[0].device.kind = DeviceKind::kCpu;
  plan_.devices[0].device.name = "cpu";
  v1::GetStatusResponse status;
  grpc::ClientContext call;
  ASSERT_TRUE(admin_->GetStatus(&call, {}, &status).ok());
  EXPECT_EQ(status.state(), v1::LOADING);
  ASSERT_EQ(status.devices_size(), 1);
  EXPECT_GT(status.devices(0).memory().other(), 0);
}

TEST_F(RpcTest, HealthTellsOfEveryChange) {
  grpc::ClientContext call;
  auto watch = health_->Watch(&call, grpc::health::v1::HealthCheckRequest());
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  Serve();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  server_->SetServing(false);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  {
    grpc::health::v1::HealthCheckRequest other;
    other.set_service("no.such.Service");
    grpc::ClientContext check, unknown;
    EXPECT_EQ(health_->Check(&check, other, &response).error_code(), grpc::StatusCode::NOT_FOUND);
    auto stream = health_->Watch(&unknown, other);
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
    unknown.TryCancel();
  }
  // A watcher does not hold up the end.
  const absl::Time start = absl::Now();
  server_->Stop(absl::Seconds(30));
  server_.reset();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(RpcTest, WatchStatusRepeats) {
  v1::WatchStatusRequest request;
  request.set_interval_seconds(0.1);
  grpc::ClientContext call, wrong;
  auto watch = admin_->WatchStatus(&call, request);
  v1::GetStatusResponse status;
  ASSERT_TRUE(watch->Read(&status));
  EXPECT_EQ(status.state(), v1::LOADING);
  Serve();
  do {
    ASSERT_TRUE(watch->Read(&status));
  } while (status.state() == v1::LOADING);
  EXPECT_EQ(status.state(), v1::SERVING);
  EXPECT_EQ(status.requests_ended().size(), kOutcomes.size());
  call.TryCancel();
  request.set_interval_seconds(0);
  auto refused = admin_->WatchStatus(&wrong, request);
  EXPECT_FALSE(refused->Read(&status));
  EXPECT_EQ(refused->Finish().error_message(), "interval_seconds is 0, expected a number in [0.1, 60]");
}

TEST_F(RpcTest, APortInUseIsNamed) {
  RpcContext other;
  const absl::Status status = RpcServer::Start(server_->address(), 1 << 20, other).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), absl::StrCat("cannot listen for gRPC at 127.0.0.1:", server_->address().port, ": port ",
                                           server_->address().port, " is in use by another program"));
}

// A proxy or a cautious client pings during a long call that answers nothing yet.
TEST_F(RpcTest, MayBePingedOnceASecond) {
  Serve();
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 1'200);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // any number
  const auto pinging = v1::Generation::NewStub(
      grpc::CreateCustomChannel(server_->address().ToString(), grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext call;
  call.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(7)));  // of five pings; too many would be four
  v1::GenerateResponse response;
  const grpc::Status status = pinging->Generate(&call, Request("slow"), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED) << status.error_message();
}

}  // namespace
}  // namespace causeway
