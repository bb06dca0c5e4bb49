// Tests streams over a real connection. The test puts their messages in a queue.
#include "server/rpc/stream_writer.h"

#include <atomic>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "server/rpc/wire.h"

namespace causeway {
namespace {

using v1::Generation;

class QueueStream final : public StreamWriter {
 public:
  using StreamWriter::Attach;
  using StreamWriter::End;
  using StreamWriter::Open;
  using StreamWriter::Refuse;

  void Push(std::string text) {
    {
      absl::MutexLock lock(&mutex_);
      queue_.push_back(std::move(text));
    }
    Write();
  }
  size_t waiting() {
    absl::MutexLock lock(&mutex_);
    return queue_.size();
  }
  int gone_calls() const { return gone_calls_; }

 private:
  bool Next(grpc::ByteBuffer* message) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (queue_.empty()) return false;
    v1::GenerateStreamResponse response;
    response.set_request_id(queue_.front());
    queue_.pop_front();
    *message = WriteMessage(response);
    return true;
  }
  void OnGone() override { ++gone_calls_; }

  std::deque<std::string> queue_ ABSL_GUARDED_BY(mutex_);
  std::atomic<int> gone_calls_{0};
};

class StreamWriterTest : public ::testing::Test,
                         public Generation::WithRawCallbackMethod_GenerateStream<Generation::Service> {
 protected:
  StreamWriterTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    stub_ =
        Generation::NewStub(grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
    call_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }
  ~StreamWriterTest() override { server_->Shutdown(std::chrono::system_clock::now()); }

  StreamReactor* GenerateStream(grpc::CallbackServerContext*, const grpc::ByteBuffer*) override {
    if (!refusal_.ok()) return StreamOr(refusal_);
    stream_ = std::make_shared<QueueStream>();
    stream_->Attach();
    StreamReactor* const stream = stream_.get();
    called_.Notify();
    return stream;
  }

  // Returns the client's end of a stream, once the server has its own.
  std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>> Call() {
    auto reader = stub_->GenerateStream(&call_, {});
    if (refusal_.ok()) called_.WaitForNotification();
    return reader;
  }

  absl::Status refusal_;
  std::shared_ptr<QueueStream> stream_;
  absl::Notification called_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Generation::Stub> stub_;
  grpc::ClientContext call_;
};

TEST_F(StreamWriterTest, WhatCannotBeWrittenYetWaitsAndIsSentInItsOrder) {
  auto reader = Call();
  stream_->Open();
  constexpr int kMessages = 160;  // of 256 KiB; about 10 MB pile up in the transport
  for (int i = 0; i < kMessages; ++i) stream_->Push(absl::StrCat(i, std::string(256 << 10, '.')));
  EXPECT_GT(stream_->waiting(), kMessages / 4);
  stream_->End(grpc::Status::OK);
  v1::GenerateStreamResponse response;
  for (int i = 0; i < kMessages; ++i) {
    ASSERT_TRUE(reader->Read(&response));
    EXPECT_EQ(response.request_id().substr(0, response.request_id().find('.')), absl::StrCat(i));
  }
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(stream_->gone_calls(), 0);
}

TEST_F(StreamWriterTest, OfSeveralEndsTheFirstCountsAfterWhatIsLeft) {
  auto reader = Call();
  stream_->Push("one");
  stream_->Push("two");
  stream_->End(grpc::Status(grpc::StatusCode::ABORTED, "first"));
  stream_->End(grpc::Status::OK);
  EXPECT_EQ(stream_->waiting(), 2);  // it is not open yet
  stream_->Open();
  v1::GenerateStreamResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.request_id(), "one");
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.request_id(), "two");
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_message(), "first");
}

TEST_F(StreamWriterTest, ARefusedStreamSendsNothing) {
  auto reader = Call();
  stream_->Push("one");
  stream_->Refuse(grpc::Status(grpc::StatusCode::NOT_FOUND, "no such model"));
  v1::GenerateStreamResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_message(), "no such model");
  EXPECT_EQ(stream_->waiting(), 1);
}

TEST_F(StreamWriterTest, AStreamThatWasNotMadeEndsWithItsStatus) {
  refusal_ = absl::InvalidArgumentError("interval_seconds is 0");
  auto reader = Call();
  v1::GenerateStreamResponse response;
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "interval_seconds is 0");
}

// Threads that push messages until `stop`, each in order. A message tells the thread's number and a count.
std::vector<std::thread> Pushers(QueueStream& stream, int messages, const std::atomic<bool>& stop) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&stream, &stop, messages, t] {
      for (int i = 0; i < messages && !stop; ++i) stream.Push(absl::StrCat(t, ".", i));
    });
  }
  return threads;
}

TEST_F(StreamWriterTest, ManyThreadsWriteOneStream) {
  constexpr int kMessages = 300;
  auto reader = Call();
  stream_->Open();
  const std::atomic<bool> stop = false;
  std::vector<std::thread> threads = Pushers(*stream_, kMessages, stop);
  std::thread ends([&] {
    for (std::thread& thread : threads) thread.join();
    std::thread other([&] { stream_->End(grpc::Status::OK); });
    stream_->End(grpc::Status::OK);
    other.join();
  });
  std::vector<int> next(threads.size(), 0);
  v1::GenerateStreamResponse response;
  while (reader->Read(&response)) {
    const int thread = response.request_id()[0] - '0';
    EXPECT_EQ(response.request_id(), absl::StrCat(thread, ".", next[thread]++));
  }
  EXPECT_TRUE(reader->Finish().ok());
  ends.join();
  for (const int messages : next) EXPECT_EQ(messages, kMessages);
}

TEST_F(StreamWriterTest, AReaderWhoGoesWhileManyThreadsWriteEndsTheStream) {
  auto reader = Call();
  stream_->Open();
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads = Pushers(*stream_, 1 << 20, stop);
  v1::GenerateStreamResponse response;
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(reader->Read(&response));
  call_.TryCancel();
  const absl::Time give_up = absl::Now() + absl::Seconds(20);
  while (stream_->gone_calls() == 0 && absl::Now() < give_up) std::this_thread::yield();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stream_->gone_calls(), 1);
  stream_->End(grpc::Status::CANCELLED);
  while (stream_.use_count() > 1 && absl::Now() < give_up) std::this_thread::yield();
  EXPECT_EQ(stream_.use_count(), 1);
}

TEST_F(StreamWriterTest, AReaderWhoGoesIsHeardOfOnceAndGetsNothingMore) {
  auto reader = Call();
  stream_->Open();
  v1::GenerateStreamResponse response;
  stream_->Push("one");
  ASSERT_TRUE(reader->Read(&response));
  call_.TryCancel();
  const absl::Time give_up = absl::Now() + absl::Seconds(20);
  while (stream_->gone_calls() == 0 && absl::Now() < give_up) std::this_thread::yield();
  stream_->Push("two");
  EXPECT_EQ(stream_->waiting(), 1);
  stream_->End(grpc::Status::CANCELLED);
  // It lives until both gRPC and those who push have released it.
  while (stream_.use_count() > 1 && absl::Now() < give_up) std::this_thread::yield();
  EXPECT_EQ(stream_.use_count(), 1);
  EXPECT_EQ(stream_->gone_calls(), 1);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace causeway
