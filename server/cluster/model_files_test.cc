#include "server/cluster/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/checkpoint/testing.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int64_t kValues = 1 << 20;

void Write(const testing::TestFolder& folder, const std::string& config, const std::string& data) {
  folder.Write("config.json", config);
  folder.Write("model.safetensors",
               testing::SafetensorsFile({{"w", "F32", {static_cast<int64_t>(data.size() / 4)}, data}}));
}

ModelFiles Describe(const testing::TestFolder& folder) {
  const absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(folder.path());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  const absl::StatusOr<ModelFiles> files = DescribeModel(**checkpoint);
  EXPECT_TRUE(files.ok()) << files.status();
  return *files;
}

TEST(ModelFiles, TheSameModelIsTheSameWhereverItLies) {
  testing::TestFolder a, b;
  Write(a, R"({"x": 1, "y": 2})", std::string(kValues * 4, 'w'));
  Write(b, "{\"y\":2,\n\"x\":1}", std::string(kValues * 4, 'w'));
  b.Write("generation_config.json", "{}");
  const ModelFiles files = Describe(a);
  EXPECT_EQ(CompareModels(files, Describe(b), "rank 1"), absl::OkStatus());
  ASSERT_EQ(files.size(), 2);
  EXPECT_EQ(files[0].name(), "config.json");
  EXPECT_EQ(files[0].digest(), "689a8f1db95402580476e38c264278ce7b1e664320cfb4e9ae8d3a908cf09964");
  EXPECT_EQ(files[1].name(), "model.safetensors");
  EXPECT_GT(files[1].bytes(), kValues * 4);
}

TEST(ModelFiles, WhatDiffersIsNamed) {
  testing::TestFolder a, b;
  const std::string data(kValues * 4, 'w');
  Write(a, R"({"x": 1})", data);
  const auto compare = [&] {
    const absl::Status status = CompareModels(Describe(a), Describe(b), "rank 2 (node7)");
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    return std::string(status.message());
  };
  Write(b, R"({"x": 2})", data);
  EXPECT_THAT(compare(), StartsWith("rank 2 (node7) has another model than the leader: config.json has the digest "));
  Write(b, R"({"x": 2})", data.substr(4));
  EXPECT_THAT(compare(), AllOf(HasSubstr("config.json"), HasSubstr(" (1 other files differ, too)")));
  Write(b, R"({"x": 1})", data.substr(4));
  EXPECT_THAT(compare(), HasSubstr("model.safetensors has 4194"));
  // Weights of another training, with the same shapes: the ends of the file, and one piece between.
  Write(b, R"({"x": 1})", std::string(kValues * 4, 'v'));
  EXPECT_THAT(compare(), HasSubstr("model.safetensors has the digest "));
  for (const size_t changed : {size_t{0}, data.size() - 1, (data.size() - 4096) / 31 * 13 + 5}) {
    std::string other = data;
    other[changed] = 'v';
    Write(b, R"({"x": 1})", other);
    EXPECT_THAT(compare(), HasSubstr("model.safetensors has the digest ")) << changed;
  }
}

TEST(ModelFiles, FilesThatOnlyOneHasAreNamed) {
  ModelFiles one;
  one.Add()->set_name("a.safetensors");
  EXPECT_THAT(CompareModels(one, {}, "rank 1").message(),
              HasSubstr("a.safetensors is not there, as it is at the leader"));
  EXPECT_THAT(CompareModels({}, one, "rank 1").message(), HasSubstr("a.safetensors is there and not at the leader"));
}

TEST(ModelFiles, SmallFilesAreReadWhole) {
  testing::TestFolder a, b;
  Write(a, "{}", std::string(40'000, 'w'));
  std::string data(40'000, 'w');
  data[20'001] = 'v';
  Write(b, "{}", data);
  EXPECT_THAT(CompareModels(Describe(a), Describe(b), "rank 1").message(), HasSubstr("has the digest"));
}

}  // namespace
}  // namespace causeway
