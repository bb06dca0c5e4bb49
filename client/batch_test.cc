#include "client/batch.h"

#include <atomic>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace causeway {
namespace {

// Refuses every prompt at first, because the queue is full. It refuses the prompt "large" for good, as gRPC does with
// messages.
class BusyDaemon : public v1::Generation::Service {
 public:
  BusyDaemon() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  ~BusyDaemon() override { server_->Shutdown(); }

  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        v1::GenerateResponse* response) override {
    if (request->prompt() == "large") return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too large");
    if (refused_++ < refusals_) {
      google::rpc::RetryInfo retry;
      retry.mutable_retry_delay()->set_nanos(1000000);
      google::rpc::Status details;
      details.add_details()->PackFrom(retry);
      return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full", details.SerializeAsString());
    }
    response->add_choices()->set_text("and then " + request->prompt());
    return grpc::Status::OK;
  }
  void RefuseNext(int refusals) {
    refused_ = 0;
    refusals_ = refusals;
  }
  const std::string& address() const { return address_; }

 private:
  std::atomic<int> refused_ = 0, refusals_ = 0;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

class BatchTest : public testing::Test {
 protected:
  BatchTest() : client_(daemon_.address()) {
    flags_.input = testing::TempDir() + "batch_prompts.jsonl";
    flags_.output = testing::TempDir() + "batch_results.jsonl";
    std::remove(flags_.output.c_str());
  }
  void Prompts(const std::vector<std::string>& prompts) {
    std::ofstream file(flags_.input);
    for (const std::string& prompt : prompts) file << nlohmann::json{{"prompt", prompt}} << "\n";
  }
  std::vector<nlohmann::json> Results() const {
    std::vector<nlohmann::json> results;
    std::ifstream file(flags_.output);
    for (std::string line; std::getline(file, line);) results.push_back(nlohmann::json::parse(line));
    return results;
  }

  BusyDaemon daemon_;
  Client client_;
  BatchFlags flags_;
};

TEST_F(BatchTest, WaitsWhileTheQueueIsFull) {
  Prompts({"one", "two", "three"});
  daemon_.RefuseNext(7);
  EXPECT_EQ(RunBatch(client_, flags_, {}), 0);
  ASSERT_EQ(Results().size(), 3u);
  for (const nlohmann::json& result : Results())
    EXPECT_EQ(result["text"], "and then " + result["prompt"].get<std::string>());

  // A prompt's own time bounds the wait.
  Prompts({"four"});
  std::remove(flags_.output.c_str());
  daemon_.RefuseNext(1 << 30);
  SamplingFlags patient;
  patient.timeout_seconds = 0.2;
  EXPECT_EQ(RunBatch(client_, flags_, patient), 1);
  ASSERT_EQ(Results().size(), 1u);
  EXPECT_TRUE(Results()[0].contains("error"));
}

TEST_F(BatchTest, TheSameCommandAgainLeavesOneLineAPrompt) {
  Prompts({"one", "large"});
  flags_.concurrency = 1;
  for (int run = 0; run < 3; ++run) {
    EXPECT_EQ(RunBatch(client_, flags_, {}), 1);
    ASSERT_EQ(Results().size(), 2u);
    EXPECT_EQ(Results()[1]["error"], "too large");
  }
}

TEST_F(BatchTest, RefusesToWriteOverItsInput) {
  Prompts({"one"});
  flags_.output = testing::TempDir() + "./batch_prompts.jsonl";
  EXPECT_EQ(RunBatch(client_, flags_, {}), 64);
  ASSERT_EQ(Results().size(), 1u);
  EXPECT_EQ(Results()[0], nlohmann::json({{"prompt", "one"}}));
}

}  // namespace
}  // namespace causeway
