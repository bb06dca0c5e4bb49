#include "engine/checkpoint/checkpoint.h"

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/checkpoint/testing.h"

namespace causeway {
namespace {

using ::causeway::testing::LengthPrefix;
using ::causeway::testing::Message;
using ::causeway::testing::SafetensorsFile;
using ::causeway::testing::TestFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() { folder_.Write("config.json", R"({"model_type": "llama"})"); }
  absl::Status Error() { return Checkpoint::Open(folder_.path()).status(); }
  void WriteSharded(const std::string& weight_map) {
    folder_.Write("model-1.safetensors", SafetensorsFile({{"a", "U8", {3}, "abc"}}));
    folder_.Write("model-2.safetensors", SafetensorsFile({{"b", "U8", {2}, "de"}, {"c", "U8", {1}, "f"}}));
    folder_.Write("model.safetensors.index.json",
                  R"({"metadata": {"total_size": 6}, "weight_map": )" + weight_map + "}");
  }
  TestFolder folder_;
};

TEST_F(CheckpointTest, OpensASingleFileAndReadsPartsOfTensors) {
  folder_.Write("model.safetensors", SafetensorsFile({{"a", "U8", {4}, "abcd"}, {"b", "F32", {1, 2}, "efghijkl"}}));
  folder_.Write("generation_config.json", R"({"eos_token_id": 7})");
  auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->config()["model_type"], "llama");
  EXPECT_EQ((*checkpoint)->generation_config()["eos_token_id"], 7);
  ASSERT_EQ((*checkpoint)->files().size(), 1u);
  const TensorInfo& b = (*checkpoint)->tensors().at("b");
  EXPECT_EQ(b.shape, (std::vector<int64_t>{1, 2}));
  std::string part(5, '\0');
  ASSERT_TRUE((*checkpoint)->Read(b, 2, absl::MakeSpan(&part[0], part.size())).ok());
  EXPECT_EQ(part, "ghijk");
  EXPECT_THAT(Message((*checkpoint)->Read(b, 4, absl::MakeSpan(&part[0], part.size()))),
              HasSubstr("tensor b has 8 bytes; asked for 5 from byte 4"));
  EXPECT_EQ((*checkpoint)->Read(b, ~uint64_t{0}, absl::MakeSpan(&part[0], part.size())).code(),
            absl::StatusCode::kOutOfRange);
}

TEST_F(CheckpointTest, NothingIsReadBeforeItIsAskedFor) {
  // Only Read finds out that data has gone.
  folder_.Write("model.safetensors", SafetensorsFile({{"a", "U8", {4}, "abcd"}, {"late", "U8", {4}, "efgh"}}));
  auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_TRUE((*checkpoint)->generation_config().empty());
  std::filesystem::resize_file(folder_ / "model.safetensors",
                               std::filesystem::file_size(folder_ / "model.safetensors") - 2);
  std::string data(4, '\0');
  EXPECT_TRUE((*checkpoint)->Read((*checkpoint)->tensors().at("a"), 0, absl::MakeSpan(&data[0], 4)).ok());
  const absl::Status lost = (*checkpoint)->Read((*checkpoint)->tensors().at("late"), 0, absl::MakeSpan(&data[0], 4));
  EXPECT_EQ(lost.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(lost),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("tensor late"), HasSubstr("2 more bytes")));
}

TEST_F(CheckpointTest, ReadsShardsFromManyThreads) {
  WriteSharded(R"({"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"})");
  auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->files().size(), 2u);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&checkpoint] {
      for (int i = 0; i < 200; ++i) {
        std::string all;
        for (const auto& [name, tensor] : (*checkpoint)->tensors()) {
          std::string data(tensor.bytes, '\0');
          ASSERT_TRUE((*checkpoint)->Read(tensor, 0, absl::MakeSpan(&data[0], data.size())).ok());
          all += data;
        }
        ASSERT_EQ(all, "abcdef");
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_F(CheckpointTest, ASingleFileGoesBeforeAnIndex) {
  WriteSharded(R"({"a": "gone.safetensors"})");
  folder_.Write("model.safetensors", SafetensorsFile({{"only", "U8", {1}, "x"}}));
  auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->tensors().count("only"), 1u);
}

TEST_F(CheckpointTest, AllMissingShardsAreListedAtOnce) {
  WriteSharded(R"({"a": "model-1.safetensors", "b": "model-3.safetensors", "c": "model-4.safetensors"})");
  const absl::Status status = Error();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("2 of 3 files"), HasSubstr("model-3.safetensors, model-4.safetensors"),
                                     Not(HasSubstr("model-1"))));
}

TEST_F(CheckpointTest, WhereIndexAndShardsDisagreeIsAWarning) {
  WriteSharded(R"({"a": "model-2.safetensors", "b": "model-2.safetensors", "d": "model-1.safetensors"})");
  const auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->tensors(), ::testing::SizeIs(3));
  EXPECT_THAT((*checkpoint)->warnings(),
              ::testing::ElementsAre(AllOf(HasSubstr("a is not in model-2.safetensors but in model-1.safetensors"),
                                           HasSubstr("d is not in model-1.safetensors"),
                                           HasSubstr("c is in model-2.safetensors and not in the index"))));
}

TEST_F(CheckpointTest, ABrokenGenerationConfigIsReadAsFarAsItGoes) {
  folder_.Write("model.safetensors", SafetensorsFile({{"a", "U8", {1}, "x"}}));
  const struct {
    const char *text, *read, *warning;
  } cases[] = {
      {R"({"top_k": 3})", R"({"top_k": 3})", ""},
      {"", "{}", "generation_config.json: not valid JSON at byte 1"},
      {R"({"top_k": 3)", "{}", "the file is ignored"},
      {"[1]", "{}", "expected an object, found an array; the file is ignored"},
      {R"({"top_k": 3, "top_p": NaN, "a": "NaN \" Infinity", "b": -Infinity})",
       R"({"top_k": 3, "top_p": null, "a": "NaN \" Infinity", "b": null})", "the rest of the file is read"},
      {R"({"top_k": 3, "top_k": 4})", R"({"top_k": 4})", "the key \"top_k\" appears twice in one object; the rest"},
  };
  for (const auto& [text, read, warning] : cases) {
    folder_.Write("generation_config.json", text);
    const auto checkpoint = Checkpoint::Open(folder_.path());
    ASSERT_TRUE(checkpoint.ok()) << text << checkpoint.status();
    EXPECT_EQ((*checkpoint)->generation_config(), Json::parse(read)) << text;
    if (*warning == 0)
      EXPECT_THAT((*checkpoint)->warnings(), ::testing::IsEmpty());
    else
      EXPECT_THAT((*checkpoint)->warnings(), ::testing::ElementsAre(HasSubstr(warning))) << text;
  }
}

// As AutoGPTQ and AutoAWQ wrote their folders before config.json had a place for it.
TEST_F(CheckpointTest, SettingsOfQuantizedWeightsMayHaveAFileOfTheirOwn) {
  folder_.Write("model.safetensors", SafetensorsFile({{"a", "U8", {1}, "x"}}));
  const auto quantization = [this] {
    const auto checkpoint = Checkpoint::Open(folder_.path());
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return (*checkpoint)->config().value("quantization_config", Json());
  };
  folder_.Write("config.json", R"({"quantization_config": null})");
  folder_.Write("quant_config.json", R"({"w_bit": 4})");
  EXPECT_EQ(quantization(), Json::parse(R"({"w_bit": 4, "quant_method": "awq"})"));
  folder_.Write("quantize_config.json", R"({"bits": 4})");
  EXPECT_EQ(quantization(), Json::parse(R"({"bits": 4, "quant_method": "gptq"})"));
  folder_.Write("config.json", R"({"quantization_config": {"quant_method": "fp8"}})");
  EXPECT_EQ(quantization(), Json::parse(R"({"quant_method": "fp8"})"));
  folder_.Write("config.json", "{}");
  folder_.Write("quantize_config.json", "{");
  EXPECT_THAT(Message(Error()), HasSubstr("quantize_config.json: not valid JSON"));
}

TEST_F(CheckpointTest, ATensorInTwoShardsIsRefused) {
  WriteSharded(R"({"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"})");
  folder_.Write("model-2.safetensors", SafetensorsFile({{"a", "U8", {2}, "de"}}));
  EXPECT_THAT(Message(Error()), AllOf(HasSubstr("tensor a is also in"), HasSubstr("model-1.safetensors")));
}

TEST_F(CheckpointTest, NoShardLeavesTheFolder) {
  for (const std::string name : {"../x.safetensors", "/etc/x.safetensors", "a/x.safetensors", "..", "", ".safetensors",
                                 "a\\\\x.safetensors", "x\\u0000.safetensors", "pytorch_model.bin"}) {
    WriteSharded(R"({"a": ")" + name + R"("})");
    EXPECT_THAT(Message(Error()), HasSubstr("expected a .safetensors file in the same folder")) << name;
  }
}

TEST_F(CheckpointTest, BrokenIndexesAreNamed) {
  WriteSharded("3");
  EXPECT_THAT(Message(Error()), AllOf(HasSubstr("index.json"), HasSubstr("weight_map is missing")));
  WriteSharded(R"({"a": 3})");
  EXPECT_THAT(Message(Error()), HasSubstr("weight_map: a: expected a file name, found an integer"));
  WriteSharded(R"({"a": "x.safetensors", "a": "y.safetensors"})");
  EXPECT_THAT(Message(Error()), HasSubstr("\"a\" appears twice"));
}

TEST_F(CheckpointTest, PickleFilesAreRefusedWithAdvice) {
  folder_.Write("pytorch_model.bin", "x");
  folder_.Write("consolidated.00.pth", "x");
  const absl::Status status = Error();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("consolidated.00.pth, pytorch_model.bin"), HasSubstr("refused"),
                                     HasSubstr("save_pretrained")));
}

TEST_F(CheckpointTest, OtherFoldersAreNamed) {
  EXPECT_THAT(Message(Error()), HasSubstr("neither model.safetensors nor"));
  EXPECT_THAT(Message(Checkpoint::Open(folder_ / "nowhere").status()), HasSubstr("no folder at"));
  folder_.Write("config.json", "[]");
  EXPECT_THAT(Message(Error()), HasSubstr("config.json: expected an object, found an array"));
  std::filesystem::remove(folder_ / "config.json");
  EXPECT_THAT(Message(Error()), HasSubstr("has no config.json"));
}

TEST_F(CheckpointTest, ALinkThatLeadsNowhereIsNoAbsence) {
  folder_.Write("model.safetensors", SafetensorsFile({{"a", "U8", {1}, "x"}}));
  ASSERT_TRUE(Error().ok()) << Error();
  for (const char* name : {"generation_config.json", "model.safetensors", "config.json"}) {
    std::filesystem::remove(folder_ / name);
    std::filesystem::create_symlink("/nonexistent", folder_ / name);
    EXPECT_THAT(Message(Error()), HasSubstr("cannot open " + (folder_ / name)));
    std::filesystem::remove(folder_ / name);
    if (name == std::string("model.safetensors")) folder_.Write(name, SafetensorsFile({{"a", "U8", {1}, "x"}}));
  }
}

TEST_F(CheckpointTest, ABrokenFileIsNamed) {
  folder_.Write("model.safetensors", "");
  EXPECT_THAT(Message(Error()), AllOf(HasSubstr("model.safetensors"), HasSubstr("it has 0 bytes")));
  folder_.Write("model.safetensors", LengthPrefix(50) + "{}");
  EXPECT_THAT(Message(Error()), HasSubstr("claims 50 bytes, but the file has 10; is the download complete?"));
  folder_.Write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  EXPECT_THAT(Message(Error()), HasSubstr("model.safetensors: a Git LFS pointer"));
  folder_.Write("config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  EXPECT_THAT(Message(Error()), HasSubstr("config.json: a Git LFS pointer"));
}

}  // namespace
}  // namespace causeway
