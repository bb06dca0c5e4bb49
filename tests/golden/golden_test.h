// Runs fixtures through the engine, in fp32.
#ifndef CAUSEWAY_TESTS_GOLDEN_GOLDEN_TEST_H_
#define CAUSEWAY_TESTS_GOLDEN_GOLDEN_TEST_H_

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/golden/golden.h"
#include "tests/support/test_engine.h"

namespace causeway {

// The parameter is the fixture's name.
class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  void Load(const std::string& kind) {
    absl::StatusOr<Golden> golden = LoadGolden(GetParam(), kind);
    ASSERT_TRUE(golden.ok()) << golden.status();
    golden_ = *std::move(golden);
    options_.model = golden_.folder;
    // CAUSEWAY_TEST_DEVICES=cuda runs the same tests on a GPU.
    const char* devices = std::getenv("CAUSEWAY_TEST_DEVICES");
    options_.devices = devices != nullptr ? devices : "cpu";
    options_.dtype = "fp32";
    options_.plan.max_num_seqs = 8;
    options_.plan.max_num_batched_tokens = 512;
    options_.plan.kv_cache_tokens = 2048;
    options_.plan.max_model_len = 144;
    options_.executor.cpu_threads = 2;
  }

  std::vector<GenerationRequest> Requests(const std::string& tag = "") const {
    std::vector<GenerationRequest> requests;
    for (size_t i = 0; i < golden_.cases.size(); ++i) {
      requests.push_back(GreedyRequest(absl::StrCat(tag, i), golden_.cases[i].prompt, golden_.cases[i].tokens.size()));
    }
    return requests;
  }

  // Plans devices that are nearly as small as possible. The rest is in CPU memory, and computed there in steps of up
  // to cpu_rows rows, or in a folder that the test removes.
  void OffloadMost(EngineOptions& options, bool on_disk, int64_t cpu_rows = 0, int devices = 1) {
    if (folder_.empty()) {
      folder_ = absl::StrCat(testing::TempDir(), "/golden-offload-", getpid());
      std::filesystem::create_directory(folder_);
    }
    options.plan.offload_to_disk = on_disk;
    options.executor.offload_folder = on_disk ? folder_ : "";
    options.executor.offload_cpu_rows = cpu_rows;
    for (int64_t small = 0, enough = 65536; enough - small > 16;) {
      const int64_t kib = (small + enough) / 2;
      EngineOptions tried = options;
      tried.devices = absl::StrCat("simulated:", devices, "x", kib, "KiB");
      tried.plan.max_memory.clear();
      if (!on_disk) {
        tried.plan.max_memory["cpu"] = int64_t{64} << 20;
        for (int i = 0; i < devices; ++i) tried.plan.max_memory[absl::StrCat(i)] = kib << 10;
      }
      const bool fits = PlaceModel(tried).ok();
      (fits ? enough : small) = kib;
      if (fits) options = tried;
    }
  }

  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  void ExpectGolden(const std::vector<std::shared_ptr<CollectingSink>>& sinks) const {
    for (size_t i = 0; i < sinks.size(); ++i) {
      EXPECT_TRUE(sinks[i]->end.status.ok()) << sinks[i]->end.status;
      EXPECT_EQ(sinks[i]->choices[0].tokens, golden_.cases[i % golden_.cases.size()].tokens) << "prompt " << i;
    }
  }

  Golden golden_;
  EngineOptions options_;
  std::string folder_;  // for offloaded weights; empty: none
};

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_GOLDEN_GOLDEN_TEST_H_
