#include "engine/checkpoint/safetensors.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/checkpoint/testing.h"

namespace causeway {
namespace {

using ::causeway::testing::LengthPrefix;
using ::causeway::testing::Message;
using ::causeway::testing::SafetensorsFile;
using ::causeway::testing::TestTensor;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<std::vector<TensorInfo>> Parse(const std::string& file) {
  return ParseSafetensorsHeader(file, file.size(), "f");
}

// Parses a file with this header and `data_bytes` of data.
absl::StatusOr<std::vector<TensorInfo>> ParseText(const std::string& header, uint64_t data_bytes) {
  const std::string head = LengthPrefix(header.size()) + header;
  return ParseSafetensorsHeader(head, head.size() + data_bytes, "f");
}

struct Refusal {
  std::string header;
  uint64_t data_bytes;
  std::string message;
};

class RefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusalTest, NamesWhatIsWrong) {
  const auto parsed = ParseText(GetParam().header, GetParam().data_bytes);
  ASSERT_FALSE(parsed.ok()) << GetParam().header;
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(parsed.status()), AllOf(HasSubstr("f: "), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusalTest,
    ::testing::ValuesIn(std::vector<Refusal>{
        {"", 0, "does not begin with '{'"},
        {"[]", 0, "does not begin with '{'"},
        {" {}", 0, "does not begin with '{'"},
        {"{", 0, "not valid JSON"},
        {"{}x", 0, "not valid JSON"},
        {"{}", 1, "no tensor holds the last 1 of 1"},
        {R"({"__metadata__": 3})", 0, "__metadata__: expected an object, found an integer"},
        {R"({"__metadata__": {"a": 3}})", 0, "\"a\": expected a string, found an integer"},
        {R"({"": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})", 0, "empty name"},
        {R"({"a\nb": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})", 0, "control character"},
        {R"({"a": 1})", 0, "tensor \"a\": expected an object, found an integer"},
        {R"({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}})", 1, "tensor \"a\": unknown dtype \"F4\""},
        {R"({"a": {"shape": [2], "data_offsets": [0, 1]}})", 1, "tensor \"a\": dtype: expected a string"},
        {R"({"a": {"dtype": "U8", "data_offsets": [0, 1]}})", 1, "shape: expected an array"},
        {R"({"a": {"dtype": "U8", "shape": [1]}})", 1, "data_offsets: expected two non-negative integers"},
        {R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}})", 1, "data_offsets: expected two"},
        {R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1.0]}})", 1, "data_offsets: expected two"},
        {R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [-1, 0]}})", 1, "data_offsets: expected two"},
        {R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1], "x": 0}})", 1, "unknown key \"x\""},
        {R"({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}})", 1,
         "non-negative integers below 2^63, found -1"},
        {R"({"a": {"dtype": "U8", "shape": [1.5], "data_offsets": [0, 1]}})", 1, "found 1.5"},
        {R"({"a": {"dtype": "U8", "shape": [9223372036854775808], "data_offsets": [0, 1]}})", 1, "below 2^63"},
        {R"({"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}})", 0, "overflows"},
        {R"({"a": {"dtype": "F32", "shape": [4611686018427387904], "data_offsets": [0, 0]}})", 0, "overflows"},
        {R"({"a": {"dtype": "F32", "shape": [0, 4294967296, 4294967296], "data_offsets": [0, 0]}})", 0, "overflows"},
        {R"({"a": {"dtype": "U8", "shape": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], "data_offsets": [0, 1]}})", 1,
         "17 dimensions"},
        {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})", 4,
         "data_offsets hold 4 bytes, but shape and dtype make 8"},
        {R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 0]}})", 4, "end before they begin"},
        {R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}})", 3, "end at byte 4, but the file holds 3"},
        {R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [18446744073709551612, 18446744073709551615]}})", 4,
         "but the file holds 4"},
        {R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "b": {"dtype": "U8", "shape": [3], "data_offsets": [3, 6]}})",
         6, "tensors \"a\" and \"b\" overlap at data bytes [3, 4)"},
        {R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "b": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}})",
         4, "overlap"},
        {R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "b": {"dtype": "U8", "shape": [3], "data_offsets": [3, 6]}})",
         6, "a hole before tensor \"b\""},
        {R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}})", 3, "a hole before tensor \"a\""},
        {R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}})", 3, "no tensor holds the last 1 of 3"},
        {R"({"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})",
         0, "\"a\" appears twice"},
    }));

TEST(SafetensorsTest, ReadsTensorsInTheOrderOfTheirData) {
  const std::string file = SafetensorsFile({{"z", "F32", {2, 1}, std::string(8, 'z')},
                                            {"empty", "F16", {3, 0}, ""},
                                            {"scalar", "I64", {}, std::string(8, 's')},
                                            {"a", "BF16", {3}, std::string(6, 'a')}});
  const auto parsed = Parse(file);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_EQ(parsed->size(), 4u);
  EXPECT_EQ((*parsed)[0].name, "z");
  EXPECT_EQ((*parsed)[0].shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ((*parsed)[1].name, "empty");
  EXPECT_EQ((*parsed)[2].name, "scalar");
  EXPECT_EQ((*parsed)[3].dtype, DType::kBF16);
  for (const TensorInfo& tensor : *parsed) {
    EXPECT_EQ(file.substr(tensor.offset, tensor.bytes), std::string(tensor.bytes, tensor.name[0]));
  }
}

TEST(SafetensorsTest, MetadataAndPaddingAreFine) {
  EXPECT_TRUE(
      ParseText(
          R"({"__metadata__": {"format": "pt"}, "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}     )", 1)
          .ok());
  EXPECT_TRUE(ParseText("{}", 0).ok());
}

TEST(SafetensorsTest, BoundsTheHeader) {
  EXPECT_THAT(Message(ParseSafetensorsHeader("1234", 4, "f").status()), HasSubstr("it has 4 bytes"));
  EXPECT_THAT(Message(ParseSafetensorsHeader(LengthPrefix(100'000'001), uint64_t{1} << 40, "f").status()),
              HasSubstr("claims 100000001 bytes; at most"));
  EXPECT_THAT(Message(ParseSafetensorsHeader(LengthPrefix(~uint64_t{0}), 100, "f").status()),
              HasSubstr("claims 18446744073709551615"));
  EXPECT_THAT(Message(ParseSafetensorsHeader(LengthPrefix(93) + "{}", 100, "f").status()),
              HasSubstr("claims 93 bytes, but the file has 100"));
  EXPECT_THAT(Message(ParseSafetensorsHeader(LengthPrefix(3) + "{}", 100, "f").status()),
              HasSubstr("only 2 are there"));
  EXPECT_THAT(Message(ParseText("{\"" + std::string(kTensorNameBytesMax + 1, 'x') +
                                    R"(": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})",
                                0)
                          .status()),
              HasSubstr("has 513 bytes; at most 512"));
}

// Whatever a header says, tensors that are accepted cover the file's data exactly once.
void ExpectSound(const absl::StatusOr<std::vector<TensorInfo>>& parsed, uint64_t data_begin, uint64_t file_bytes) {
  if (!parsed.ok()) {
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
    return;
  }
  uint64_t at = data_begin;
  for (const TensorInfo& tensor : *parsed) {
    EXPECT_EQ(tensor.offset, at);
    int64_t bytes = DTypeBytes(tensor.dtype);
    for (int64_t d : tensor.shape) bytes *= d;
    EXPECT_EQ(static_cast<uint64_t>(bytes), tensor.bytes);
    at += tensor.bytes;
  }
  EXPECT_EQ(at, file_bytes);
}

TEST(SafetensorsTest, RandomFilesRoundTripAndTheirDamageIsNeverUnsound) {
  std::mt19937 random(7);
  const std::vector<std::pair<std::string, int>> dtypes = {{"F64", 8}, {"F32", 4},  {"F16", 2},    {"BF16", 2},
                                                           {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}};
  int accepted_after_damage = 0, refused_after_damage = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<TestTensor> tensors;
    for (int t = random() % 6; t >= 0; --t) {
      const auto& [dtype, size] = dtypes[random() % dtypes.size()];
      TestTensor tensor{"t" + std::to_string(t), dtype, {}, ""};
      int64_t bytes = size;
      for (int rank = random() % 4; rank > 0; --rank) {
        tensor.shape.push_back(random() % 5);
        bytes *= tensor.shape.back();
      }
      tensor.data.assign(bytes, 'x');
      tensors.push_back(tensor);
    }
    std::shuffle(tensors.begin(), tensors.end(), random);
    const std::string file = SafetensorsFile(tensors);
    const uint64_t data_begin = 8 + *SafetensorsHeaderBytes(file, file.size(), "f");
    const auto parsed = Parse(file);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ASSERT_EQ(parsed->size(), tensors.size());
    ExpectSound(parsed, data_begin, file.size());
    for (int damage = 0; damage < 20; ++damage) {
      std::string broken = file.substr(0, data_begin);
      // Replacing a digit with a digit keeps the JSON valid and makes its meaning wrong.
      const size_t at = 8 + random() % (broken.size() - 8);
      broken[at] = isdigit(static_cast<unsigned char>(broken[at])) ? static_cast<char>('0' + random() % 10)
                                                                   : static_cast<char>(random());
      const uint64_t file_bytes = file.size() + (random() % 4 == 0 ? 1 : 0);
      const auto again = ParseSafetensorsHeader(broken, file_bytes, "f");
      (again.ok() ? accepted_after_damage : refused_after_damage)++;
      ExpectSound(again, data_begin, file_bytes);
    }
  }
  EXPECT_GT(accepted_after_damage, 0);
  EXPECT_GT(refused_after_damage, 1000);
}

}  // namespace
}  // namespace causeway
