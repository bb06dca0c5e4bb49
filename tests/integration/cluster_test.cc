// Several processes that serve a model together: the tokens of one, whatever they share and however, and what becomes
// of them when one is killed, hangs or does not fit.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "tests/support/daemon_process.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address));
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  close(fd);
  return ntohs(address.sin_port);
}

using Flags = std::vector<std::string>;
using Processes = std::vector<std::unique_ptr<DaemonProcess>>;

Flags Joined(Flags flags, const Flags& more) {
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

// Process by process, the leader first; each has so many devices.
Processes StartGroup(const std::vector<int>& devices, const Flags& flags, const std::string& model = kModel) {
  const std::string rendezvous = absl::StrCat("127.0.0.1:", FreePort());
  Processes group;
  for (size_t rank = 0; rank < devices.size(); ++rank) {
    group.push_back(std::make_unique<DaemonProcess>(
        Joined({"--model", model, "--devices", absl::StrCat("simulated:", devices[rank], "x256MiB"), "--cluster-size",
                absl::StrCat(devices.size()), "--cluster-rank", absl::StrCat(rank), "--rendezvous", rendezvous,
                "--cpu-threads", "2"},
               flags)));
  }
  return group;
}

const char* const kPrompts[] = {
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness",
    "And it came to pass", "Blessed are the", "The LORD is my shepherd; I shall not want. He maketh me to lie down in"};

grpc::Status Ask(const std::shared_ptr<grpc::Channel>& channel, const v1::GenerateRequest& request,
                 v1::GenerateResponse* response) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  return v1::Generation::NewStub(channel)->Generate(&context, request, response);
}

// Greedy and drawn tokens with their logprobs, prompts' logprobs, a grammar, several choices: what comes of them.
std::vector<std::string> Answers(const DaemonProcess& daemon) {
  std::vector<v1::GenerateRequest> requests;
  requests.reserve(std::size(kPrompts) * 3);
  for (const char* prompt : kPrompts) {
    v1::GenerateRequest& greedy = requests.emplace_back();
    greedy.set_prompt(prompt);
    greedy.mutable_stop()->set_max_tokens(24);
    greedy.mutable_sampling()->set_temperature(0);
    v1::GenerateRequest& drawn = requests.emplace_back(greedy);
    drawn.mutable_sampling()->set_n(2);
    drawn.mutable_sampling()->set_temperature(0.9);
    drawn.mutable_sampling()->set_top_p(0.9);
    drawn.mutable_sampling()->set_frequency_penalty(0.5);
    drawn.mutable_sampling()->set_seed(11);
    v1::GenerateRequest& constrained = requests.emplace_back(greedy);
    constrained.mutable_grammar()->set_json_schema(
        R"({"type":"object","properties":{"a":{"enum":["lord","king"]},"b":{"type":"integer","minimum":0,"maximum":99}},"required":["a","b"],"additionalProperties":false})");
    constrained.mutable_grammar()->set_compact_json(true);
    constrained.mutable_stop()->set_max_tokens(40);
  }
  std::vector<std::string> answers(requests.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < requests.size(); ++i) {
    clients.emplace_back([&, i] {
      v1::GenerateResponse response;
      const grpc::Status status = Ask(daemon.Channel(), requests[i], &response);
      answers[i] = status.ok() ? "" : status.error_message();
      for (const auto& choice : response.choices()) absl::StrAppend(&answers[i], choice.text(), "|");
    });
  }
  for (std::thread& client : clients) client.join();
  return answers;
}

void Stop(const Processes& group) {
  group.front()->Signal(SIGTERM);
  for (const auto& process : group) EXPECT_EQ(process->Wait(), 0) << process->Err();
}

TEST(ClusterTest, ProcessesGiveTheTokensOfOne) {
  struct Split {
    std::string parallel;
    std::vector<int> devices;
  };
  const std::vector<Split> splits = {{"pp=2", {1, 1}},           {"tp=2", {1, 1}},      {"dp=2", {1, 1}},
                                     {"dp=2,tp=2", {2, 2}},      {"pp=2,tp=2", {2, 2}}, {"dp=2,pp=2", {1, 1, 1, 1}},
                                     {"pp=2,tp=2", {1, 1, 1, 1}}};
  const std::vector<Flags> features = {
      {"--dtype", "fp32", "--kv-cache", "8192"},
      // Chunks, and a cache that a few sequences fill: they are preempted, those with grammars as well.
      {"--dtype", "fp32", "--max-num-batched-tokens", "24", "--max-num-seqs", "8", "--max-model-len", "96",
       "--kv-cache", "192"},
      {"--dtype", "fp32", "--kv-cache", "8192", "--kv-cache-dtype", "int8", "--no-prefix-cache"}};
  int compared = 0;
  for (size_t feature = 0; feature < features.size(); ++feature) {
    DaemonProcess one(
        Joined({"--model", kModel, "--devices", "simulated:1x256MiB", "--cpu-threads", "2"}, features[feature]));
    ASSERT_TRUE(one.WaitUntilServing());
    const std::vector<std::string> expected = Answers(one);
    for (const std::string& answer : expected) EXPECT_THAT(answer, HasSubstr("|"));
    for (size_t i = 0; i < splits.size(); ++i) {
      if (feature > 0 && splits[i].devices.size() > 2) continue;
      SCOPED_TRACE(absl::StrCat(splits[i].parallel, " over ", splits[i].devices.size(), ", features ", feature));
      const Processes group = StartGroup(
          splits[i].devices, Joined({"--parallel", splits[i].parallel, "--device-map", "balanced"}, features[feature]));
      ASSERT_TRUE(group.front()->WaitUntilServing()) << group.back()->Err();
      for (int round = 0; round < 2; ++round) {  // the second finds prefixes in the cache
        EXPECT_EQ(Answers(*group.front()), expected) << "round " << round;
        ++compared;
      }
      if (feature == 1) {
        double preempted = 0;
        for (const auto& [sample, value] : group.front()->Metrics())
          if (sample.starts_with("causeway_preemptions_total")) preempted += value;
        EXPECT_GT(preempted, 0);
      }
      Stop(group);
    }
  }
  RecordProperty("compared", compared);
}

// What a client is told and how each process ends when one of them does.
struct Fault {
  const char* name;
  size_t victim;
  int signal;
  double noticed_within;  // seconds
};

TEST(ClusterTest, AProcessThatIsGoneOrHangsEndsTheGroup) {
  for (const Fault& fault : {Fault{"killed worker", 1, SIGKILL, 1.0}, Fault{"stopped worker", 1, SIGSTOP, 2.5},
                             Fault{"killed leader", 0, SIGKILL, 1.0}, Fault{"stopped leader", 0, SIGSTOP, 2.5}}) {
    for (const char* parallel : {"pp=2", "tp=2"}) {
      SCOPED_TRACE(absl::StrCat(fault.name, ", ", parallel));
      const Processes group = StartGroup({1, 1}, {"--parallel", parallel, "--device-map", "balanced",
                                                  "--lost-after-seconds", "2", "--heartbeat-seconds", "0.2"});
      ASSERT_TRUE(group.front()->WaitUntilServing()) << group.back()->Err();
      constexpr int kStreams = 50;
      std::atomic<int> begun = 0, unavailable = 0, named = 0;
      std::vector<std::thread> clients;
      for (int i = 0; i < kStreams; ++i) {
        clients.emplace_back([&] {
          v1::GenerateRequest request;
          request.set_prompt("And it came to pass");
          request.mutable_stop()->set_max_tokens(1500);
          request.mutable_stop()->set_ignore_eos(true);
          grpc::ClientContext context;
          context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
          const auto stub = v1::Generation::NewStub(group.front()->Channel());
          const auto reader = stub->GenerateStream(&context, request);
          v1::GenerateStreamResponse event;
          bool first = true;
          while (reader->Read(&event)) begun += std::exchange(first, false);
          const grpc::Status status = reader->Finish();
          unavailable += status.error_code() == grpc::StatusCode::UNAVAILABLE;
          named += status.error_message().find("rank 1 (") != std::string::npos;
        });
      }
      while (begun < kStreams) absl::SleepFor(absl::Milliseconds(20));
      const absl::Time begin = absl::Now();
      group[fault.victim]->Signal(fault.signal);
      EXPECT_EQ(group[1 - fault.victim]->Wait(absl::Seconds(20)), 1) << group[1 - fault.victim]->Err();
      const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
      if (fault.signal == SIGSTOP) group[fault.victim]->Signal(SIGCONT);
      EXPECT_NE(group[fault.victim]->Wait(absl::Seconds(20)), 0);
      for (std::thread& client : clients) client.join();
      EXPECT_LT(seconds, fault.noticed_within + 3);  // and what the end of a process takes
      if (fault.victim == 1) {
        EXPECT_EQ(unavailable, kStreams);
        EXPECT_EQ(named, kStreams) << group.front()->Err();
      }
    }
  }
}

// A worker of the second replica is killed under load: the first serves on, and the second comes back with the worker.
// Rank 1's death is noticed without a request, too.
TEST(ClusterTest, ALostReplicaComesBack) {
  const std::string rendezvous = absl::StrCat("127.0.0.1:", FreePort());
  const auto process = [&](int rank) {
    return std::make_unique<DaemonProcess>(
        Flags{"--model", kModel, "--devices", rank == 0 ? "simulated:2x256MiB" : "simulated:1x256MiB", "--cluster-size",
              "3", "--cluster-rank", absl::StrCat(rank), "--rendezvous", rendezvous, "--cpu-threads", "2", "--kv-cache",
              "8192", "--parallel", "dp=2,pp=2", "--device-map", "balanced"});
  };
  Processes group;
  for (int rank = 0; rank < 3; ++rank) group.push_back(process(rank));
  DaemonProcess& leader = *group.front();
  ASSERT_TRUE(leader.WaitUntilServing()) << group.back()->Err();
  const auto all_answer = [&leader](int count) {
    std::atomic<int> whole = 0;
    std::vector<std::thread> clients;
    for (int i = 0; i < count; ++i) {
      clients.emplace_back([&] {
        v1::GenerateRequest request;
        request.set_prompt("And it came to pass");
        request.mutable_stop()->set_max_tokens(60);
        request.mutable_stop()->set_ignore_eos(true);
        v1::GenerateResponse response;
        whole += Ask(leader.Channel(), request, &response).ok();
      });
    }
    for (std::thread& client : clients) client.join();
    return whole.load();
  };
  const auto served_by = [&leader](int replica) {
    return leader.Metrics()[absl::StrCat("causeway_replica_up{replica=\"", replica, "\"}")];
  };
  const auto becomes = [&](int replica, double value) {
    for (int i = 0; i < 200 && served_by(replica) != value; ++i) absl::SleepFor(absl::Milliseconds(50));
    return served_by(replica) == value;
  };
  EXPECT_EQ(all_answer(10), 10);
  for (int round = 0; round < 2; ++round) {
    std::thread load([&] {
      const int whole = round == 0 ? all_answer(40) : 40;  // in the second round it is killed idle
      EXPECT_GE(whole, 20);
    });
    absl::SleepFor(absl::Milliseconds(300));
    for (const size_t rank : {1, 2}) group[rank]->Signal(rank == 2 ? SIGKILL : 0);
    EXPECT_TRUE(becomes(1, 0)) << round;
    EXPECT_EQ(group[1]->Wait(), 1) << "it is told to start again together with the other";
    load.join();
    EXPECT_EQ(all_answer(10), 10) << "the first replica serves on";
    for (const size_t rank : {1, 2}) group[rank] = process(static_cast<int>(rank));
    EXPECT_TRUE(becomes(1, 1)) << leader.Err();
    EXPECT_EQ(all_answer(20), 20);
  }
  // A stop while it comes back holds nobody up.
  group[2]->Signal(SIGKILL);
  EXPECT_EQ(group[1]->Wait(), 1);
  for (const size_t rank : {1, 2}) group[rank] = process(static_cast<int>(rank));
  absl::SleepFor(absl::Milliseconds(600));
  leader.Signal(SIGTERM);
  EXPECT_EQ(leader.Wait(absl::Seconds(20)), 0) << leader.Err();
}

// A map in a file of the leader's is the followers', too.
TEST(ClusterTest, TheLeadersDeviceMapIsEveryones) {
  const testing::TemporaryFolder folder("cluster");
  const std::string map = folder.path() + "/map.json", rendezvous = absl::StrCat("127.0.0.1:", FreePort());
  std::ofstream(map)
      << R"({"model.embed_tokens": 0, "model.layers.0": 0, "model.layers": 1, "model.norm": 1, "lm_head": 1})";
  const auto process = [&](int rank, const Flags& more) {
    return std::make_unique<DaemonProcess>(
        Joined({"--model", kModel, "--devices", "simulated:1x256MiB", "--cluster-size", "2", "--cluster-rank",
                absl::StrCat(rank), "--rendezvous", rendezvous},
               more));
  };
  Processes group;
  group.push_back(process(0, {"--device-map", map}));
  absl::SleepFor(absl::Milliseconds(500));
  std::ofstream(map) << "gone";  // it has been read
  group.push_back(process(1, {}));
  ASSERT_TRUE(group.front()->WaitUntilServing()) << group.back()->Err();
  EXPECT_THAT(group.front()->Out(), HasSubstr("layer 0"));
  Stop(group);
}

TEST(ClusterTest, AFollowerThatIsToldToStopHasTheGroupDrain) {
  const Processes group = StartGroup({1, 1}, {"--parallel", "pp=2", "--device-map", "balanced"});
  ASSERT_TRUE(group.front()->WaitUntilServing());
  v1::GenerateRequest request;
  request.set_prompt("And it came to pass");
  request.mutable_stop()->set_max_tokens(200);
  request.mutable_stop()->set_ignore_eos(true);
  v1::GenerateResponse response;
  grpc::Status status;
  std::thread client([&] { status = Ask(group.front()->Channel(), request, &response); });
  absl::SleepFor(absl::Milliseconds(200));
  group.back()->Signal(SIGTERM);
  client.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
  for (const auto& process : group) EXPECT_EQ(process->Wait(), 0);
}

TEST(ClusterTest, WhoDoesNotFitIsRefused) {
  const std::string rendezvous = absl::StrCat("127.0.0.1:", FreePort());
  const testing::TemporaryFolder folder("cluster");
  const std::string secret = folder.path() + "/secret", other = folder.path() + "/other";
  std::ofstream(secret) << "a secret\n";
  std::ofstream(other) << "another\n";
  const auto process = [&](int rank, const std::string& model, const Flags& more) {
    return std::make_unique<DaemonProcess>(
        Joined({"--model", model, "--devices", "simulated:1x256MiB", "--cluster-size", "2", "--cluster-rank",
                absl::StrCat(rank), "--rendezvous", rendezvous},
               more));
  };
  const auto leader = process(0, kModel, {"--cluster-secret-file", secret});
  const auto stranger = process(1, kModel, {"--cluster-secret-file", other});
  EXPECT_EQ(stranger->Wait(), 1);
  EXPECT_THAT(stranger->Err(), HasSubstr("the leader's secret is another"));
  const auto without = process(1, kModel, {});
  EXPECT_EQ(without->Wait(), 1);
  const TinyCheckpoint tiny(TinyLlama());
  const auto wrong_model = process(1, tiny.folder(), {"--cluster-secret-file", secret});
  EXPECT_EQ(wrong_model->Wait(), 1);
  EXPECT_THAT(wrong_model->Err(), HasSubstr("config.json"));
  // It is still waited for.
  const auto right = process(1, kModel, {"--cluster-secret-file", secret});
  ASSERT_TRUE(leader->WaitUntilServing()) << leader->Err();
  const auto twice = process(1, kModel, {"--cluster-secret-file", secret});
  EXPECT_EQ(twice->Wait(), 1);
  EXPECT_THAT(twice->Err(), HasSubstr("rank 1 has joined already"));
  leader->Signal(SIGTERM);
  EXPECT_EQ(leader->Wait(), 0);
  EXPECT_EQ(right->Wait(), 0);
}

TEST(ClusterTest, AStartSaysWhomItWaitsForAndWhatIsWrong) {
  const Flags base = {"serve", "--model", kModel, "--devices", "cpu", "--cluster-size", "3", "--cluster-rank", "0"};
  ProgramResult late = RunCausewayd(
      Joined(base, {"--rendezvous", absl::StrCat("127.0.0.1:", FreePort()), "--join-timeout-seconds", "1"}));
  EXPECT_EQ(late.status, 1);
  EXPECT_THAT(late.err, HasSubstr("for ranks 1, 2"));
  ProgramResult open = RunCausewayd(Joined(base, {"--rendezvous", "0.0.0.0:29555"}));
  EXPECT_EQ(open.status, 78);
  EXPECT_THAT(open.err, HasSubstr("without one, only loopback is listened on"));
  ProgramResult alone = RunCausewayd({"worker", "--model", kModel});
  EXPECT_EQ(alone.status, 78);
  EXPECT_THAT(alone.err, HasSubstr("causewayd serve leads"));
}

}  // namespace
}  // namespace causeway
