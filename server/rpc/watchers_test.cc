// Tests watching streams over a real connection.
#include "server/rpc/watchers.h"

#include <atomic>
#include <thread>

#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/rpc/wire.h"

namespace causeway {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckResponse;

class WatchersTest : public ::testing::Test, public Health::WithRawCallbackMethod_Watch<Health::Service> {
 protected:
  WatchersTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    stub_ = Health::NewStub(grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }
  ~WatchersTest() override {
    watchers_.Stop();
    server_->Shutdown();
  }
  StreamReactor* Watch(grpc::CallbackServerContext*, const grpc::ByteBuffer*) override {
    return watchers_.Open([value = value_] { return WriteMessage(value()); }, interval_);
  }

  Watchers watchers_;
  std::function<HealthCheckResponse()> value_;
  std::chrono::milliseconds interval_{0};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Health::Stub> stub_;
};

TEST_F(WatchersTest, AStreamGoesWithItsReader) {
  auto held = std::make_shared<int>();  // this test, value_ and every open stream hold it
  value_ = [held] { return HealthCheckResponse(); };
  interval_ = std::chrono::milliseconds(10);
  for (int i = 0; i < 4; ++i) {
    grpc::ClientContext call;
    auto stream = stub_->Watch(&call, {});
    HealthCheckResponse response;
    for (int read = 0; read < 3; ++read) ASSERT_TRUE(stream->Read(&response));
    EXPECT_GT(held.use_count(), 2);
    call.TryCancel();
    stream->Finish();
  }
  const absl::Time give_up = absl::Now() + absl::Seconds(20);
  while (held.use_count() > 2 && absl::Now() < give_up) std::this_thread::yield();
  EXPECT_EQ(held.use_count(), 2);
}

TEST_F(WatchersTest, AChangeWhileTheFirstValueIsMadeIsToldOf) {
  std::atomic<bool> serving{false};
  absl::Notification poked;
  std::thread other;
  value_ = [&] {
    HealthCheckResponse response;
    response.set_status(serving ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING);
    if (!serving.exchange(true)) {
      other = std::thread([&] {
        watchers_.Poke();
        poked.Notify();
      });
      // It does not wait for ever: where the stream can be poked already, it holds up the other thread until this
      // returns.
      poked.WaitForNotificationWithTimeout(absl::Milliseconds(200));
    }
    return response;
  };
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  auto stream = stub_->Watch(&call, {});
  HealthCheckResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  call.TryCancel();
  stream->Finish();
  other.join();
}

}  // namespace
}  // namespace causeway
