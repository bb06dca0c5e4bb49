// Runs 200 streams at once against the real daemon, with random cancels and deadlines. Every request ends in one
// outcome, the daemon's counters agree with what its clients saw, all KV blocks are freed, and memory stays flat.
// CAUSEWAY_WAVES says how often.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/client.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

struct Tally {
  std::map<std::string, int> outcomes;  // finish reasons, or the codes of calls that failed
  int accepted = 0;                     // the daemon has said that it took the request
  int64_t generated = 0;
};

// Runs one wave: `count` streams at once, each with its own fate.
Tally Wave(const std::string& address, int count, uint64_t seed) {
  Client client(address);
  absl::Mutex mutex;
  Tally tally;
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937_64 random(seed * 1000 + i);
      v1::GenerateRequest request;
      for (int t = 0, n = 1 + random() % 60; t < n; ++t) request.mutable_tokens()->add_ids(6 + random() % 4000);
      request.mutable_stop()->set_max_tokens(1 + random() % 60);
      request.mutable_stop()->set_ignore_eos(true);
      request.mutable_sampling()->set_seed(i);
      request.mutable_sampling()->set_n(1 + (random() % 8 == 0));
      request.mutable_output()->set_token_ids(true);
      CallOptions options;
      const int fate = random() % 4;  // 0: cancelled after some tokens; 1: a short deadline; else left alone
      const int cancel_after = 1 + random() % 20;
      if (fate == 1) options.timeout = absl::Milliseconds(20 + random() % 400);
      bool accepted = false;
      int tokens = 0;
      int64_t generated = -1;
      std::string outcome;
      const absl::Status status = client.GenerateStream(
          request,
          [&](const v1::GenerateStreamResponse& event) {
            accepted |= event.has_accepted();
            tokens += event.delta().token_ids_size();
            if (event.has_finished()) {
              generated = event.finished().usage().generated_tokens();
              outcome = event.finished().choices(0).finish_reason() == v1::LENGTH ? "length" : "other";
            }
            return !(fate == 0 && tokens >= cancel_after && !event.has_finished());
          },
          options);
      absl::MutexLock lock(&mutex);
      tally.accepted += accepted;
      if (status.ok()) {
        EXPECT_EQ(generated, tokens) << "request " << i;
        tally.generated += generated;
        ++tally.outcomes[outcome];
      } else {
        ++tally.outcomes[std::string(absl::StatusCodeToString(status.code()))];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return tally;
}

// The sum over the samples of a family whose labels contain `labels`.
double Sum(const DaemonProcess& daemon, const std::string& family, const std::string& labels = "") {
  double sum = 0;
  for (const auto& [sample, value] : daemon.Metrics()) {
    const bool whole = sample == family || absl::StartsWith(sample, family + "{");
    if (whole && absl::StrContains(sample, labels)) sum += value;
  }
  return sum;
}

// The resident memory that the kernel counts.
int64_t ResidentBytes(const DaemonProcess& daemon) {
  std::ifstream statm(absl::StrCat("/proc/", daemon.pid(), "/statm"));
  int64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

void HoldUp(const std::vector<std::string>& flags) {
  constexpr int kStreams = 200;
  const char* waves_wanted = std::getenv("CAUSEWAY_WAVES");
  const int waves = waves_wanted == nullptr ? 4 : std::atoi(waves_wanted);
  ASSERT_GE(waves, 2) << "CAUSEWAY_WAVES: " << waves_wanted;
  // There is room for about a quarter of what the streams want at once, so that some are queued and preempted.
  std::vector<std::string> all_flags = {"--model",
                                        CAUSEWAY_SOURCE_DIR "/models/kjv",
                                        "--max-num-seqs",
                                        "48",
                                        "--max-model-len",
                                        "512",
                                        "--kv-cache",
                                        "3072",
                                        "--max-num-batched-tokens",
                                        "512",
                                        "--log-level",
                                        "warning"};
  all_flags.insert(all_flags.end(), flags.begin(), flags.end());
  DaemonProcess daemon(all_flags);
  ASSERT_TRUE(daemon.WaitUntilServing());
  Tally all;
  std::vector<int64_t> resident;
  for (int wave = 0; wave < waves; ++wave) {
    const Tally tally = Wave(daemon.grpc(), kStreams, wave);
    for (const auto& [outcome, count] : tally.outcomes) all.outcomes[outcome] += count;
    all.generated += tally.generated;
    all.accepted += tally.accepted;
    // For a client, a cancelled stream is over as soon as it is closed. The daemon frees it within a step.
    for (int i = 0; i < 500 && Sum(daemon, "causeway_requests_running") + Sum(daemon, "causeway_requests_waiting") > 0;
         ++i) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    EXPECT_EQ(Sum(daemon, "causeway_kv_cache_blocks", "state=\"used\""), 0) << "after wave " << wave;
    resident.push_back(ResidentBytes(daemon));
  }
  int seen = 0;
  for (const auto& [outcome, count] : all.outcomes) seen += count;
  EXPECT_EQ(seen, kStreams * waves);

  const auto ended = [&](const std::string& outcome) {
    return static_cast<int>(Sum(daemon, "causeway_requests_total", absl::StrCat("outcome=\"", outcome, "\"")));
  };
  // A call whose deadline passes before it reaches the daemon is known to its client alone.
  const double total = Sum(daemon, "causeway_requests_total");
  EXPECT_GE(total, all.accepted);
  EXPECT_LE(total, kStreams * waves);
  EXPECT_GE(total, kStreams * waves * 0.98);
  EXPECT_EQ(ended("error"), 0);
  EXPECT_EQ(ended("invalid"), 0);
  // A request may finish in the daemon just as its client gives it up. Then the client counts a cancel or a passed
  // deadline, and the daemon an end. It is never the other way round.
  EXPECT_GE(ended("length"), all.outcomes["length"]);
  EXPECT_LE(ended("cancelled") + ended("deadline"), all.outcomes["CANCELLED"] + all.outcomes["DEADLINE_EXCEEDED"]);
  EXPECT_EQ(ended("length") + ended("cancelled") + ended("deadline"), total);
  EXPECT_GT(all.outcomes["CANCELLED"], 5 * waves);
  EXPECT_GT(all.outcomes["DEADLINE_EXCEEDED"], 5 * waves);
  EXPECT_GT(all.outcomes["length"], 50 * waves);
  EXPECT_GE(Sum(daemon, "causeway_generated_tokens_total"), all.generated);
  EXPECT_EQ(Sum(daemon, "causeway_request_duration_seconds_count"), total);
  // The first wave warms up allocators and gRPC's pools.
  EXPECT_LE(resident.back(), resident.front() * 1.1 + (16 << 20))
      << "resident bytes after each wave: " << testing::PrintToString(resident);
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0) << daemon.Err();
}

TEST(LoadTest, TwoHundredStreamsWithCancelsAndDeadlines) { HoldUp({"--devices", "cpu"}); }

// The device holds a third of the weights' bytes; the rest comes from disk.
TEST(LoadTest, TheSameWithOffloadedWeights) {
  const std::string folder = absl::StrCat(::testing::TempDir(), "/load-offload-", getpid());
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  HoldUp({"--devices", "simulated:1x17MiB", "--offload-folder", folder});
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace causeway
