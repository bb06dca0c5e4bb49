#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/plan/device.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::string Error(absl::string_view text) {
  const absl::StatusOr<int64_t> bytes = ParseBytes(text);
  EXPECT_FALSE(bytes.ok()) << text << " read as " << *bytes;
  return bytes.ok() ? "" : std::string(bytes.status().message());
}

TEST(ParseBytesTest, ReadsPowersOfTenAndOfTwo) {
  EXPECT_EQ(*ParseBytes("1024B"), 1024);
  EXPECT_EQ(*ParseBytes("40GB"), 40'000'000'000);
  EXPECT_EQ(*ParseBytes("40GiB"), int64_t{40} << 30);
  EXPECT_EQ(*ParseBytes("512MiB"), 512 << 20);
  EXPECT_EQ(*ParseBytes("1.5GiB"), int64_t{3} << 29);
  EXPECT_EQ(*ParseBytes("0.25KB"), 250);
  EXPECT_EQ(*ParseBytes("2TB"), 2'000'000'000'000);
  EXPECT_EQ(*ParseBytes("0GB"), 0);
  EXPECT_EQ(*ParseBytes(" 3 MB "), 3'000'000);
}

TEST(ParseBytesTest, SuffixInEitherCase) {
  EXPECT_EQ(*ParseBytes("40gB"), *ParseBytes("40GB"));
  EXPECT_EQ(*ParseBytes("40gib"), *ParseBytes("40GiB"));
  EXPECT_EQ(*ParseBytes("7KIB"), 7 * 1024);
}

TEST(ParseBytesTest, RefusesWhatIsAmbiguousAndSaysWhatToWrite) {
  EXPECT_THAT(Error("40G"), AllOf(HasSubstr("\"40GB\""), HasSubstr("\"40GiB\"")));
  EXPECT_THAT(Error("1.5m"), AllOf(HasSubstr("\"1.5MB\""), HasSubstr("\"1.5MiB\"")));
  EXPECT_THAT(Error("1024"), AllOf(HasSubstr("no unit"), HasSubstr("\"1024B\"")));
  EXPECT_THAT(Error("40Gb"), AllOf(HasSubstr("bits"), HasSubstr("\"40GB\""), HasSubstr("\"40GiB\"")));
  EXPECT_THAT(Error("40gb"), HasSubstr("bits"));
  EXPECT_THAT(Error("8b"), AllOf(HasSubstr("bits"), HasSubstr("\"8B\"")));
  EXPECT_THAT(Error("-40GB"), HasSubstr("negative"));
}

TEST(ParseBytesTest, RefusesWhatIsNoSize) {
  for (const char* text : {"", " ", "GB", "abc", "1e3GB", "1..5GB", "1.GB", ".5GB", "+1GB", "40GBs", "40 G B", "0x10B",
                           "1,5GB", "nanGB", "infGB"}) {
    EXPECT_THAT(Error(text), HasSubstr(text)) << text;
  }
  EXPECT_THAT(Error("9223372036854775807KB"), HasSubstr("too large"));
  EXPECT_THAT(Error("9999999999999999999999999999TiB"), HasSubstr("too large"));
  EXPECT_EQ(*ParseBytes("1024TiB"), int64_t{1} << 50);
  EXPECT_THAT(Error("1025TiB"), HasSubstr("expected at most 1024TiB"));
  EXPECT_THAT(Error("40PB"), HasSubstr("no unit; expected"));
}

TEST(FormatBytesTest, TwoDecimalsAtMost) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1 KiB");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(512 << 20), "512 MiB");
  EXPECT_EQ(FormatBytes(int64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(FormatBytes((int64_t{1} << 30) + (11 << 20)), "1.01 GiB");
  EXPECT_EQ(FormatBytes((int64_t{1} << 20) - 1), "1 MiB");
  EXPECT_EQ(FormatBytes(int64_t{99} * 1024 * 1024 + 550 * 1024), "99.5 MiB");
  EXPECT_EQ(FormatBytes(-2048), "-2 KiB");
}

TEST(ParseMaxMemoryTest, OneForAllOrOneEach) {
  EXPECT_THAT(*ParseMaxMemory(""), UnorderedElementsAre());
  EXPECT_THAT(*ParseMaxMemory("40GB"), UnorderedElementsAre(Pair("", 40'000'000'000)));
  EXPECT_THAT(*ParseMaxMemory("0:40GB, 1:60GB,cpu:100GB,disk:1TB"),
              UnorderedElementsAre(Pair("0", 40'000'000'000), Pair("1", 60'000'000'000), Pair("cpu", 100'000'000'000),
                                   Pair("disk", 1'000'000'000'000)));
  EXPECT_THAT(*ParseMaxMemory("cuda:2:1MiB,simulated:03:1KiB"),
              UnorderedElementsAre(Pair("2", 1 << 20), Pair("3", 1024)));
  EXPECT_THAT(*ParseMaxMemory("8GB,cpu:1GB"),
              UnorderedElementsAre(Pair("", 8'000'000'000), Pair("cpu", 1'000'000'000)));
}

TEST(ParseMaxMemoryTest, CpuAutoIsLeftToTheBudgets) {
  EXPECT_THAT(*ParseMaxMemory("cpu:auto"), UnorderedElementsAre(Pair("cpu", kAutoBytes)));
}

TEST(ParseMaxMemoryTest, TheFieldsJsonIsTheSame) {
  EXPECT_THAT(*ParseMaxMemory(R"( {"0": "40GB", "cuda:1": "60 GiB", "cpu": "100GB", "disk": "1TB"} )"),
              *ParseMaxMemory("0:40GB,1:60GiB,cpu:100GB,disk:1TB"));
  EXPECT_THAT(*ParseMaxMemory(R"({"0": 40000000000, "cpu": "auto"})"),
              UnorderedElementsAre(Pair("0", 40'000'000'000), Pair("cpu", kAutoBytes)))
      << "a number is bytes, as in transformers";
  auto error = [](absl::string_view text) { return std::string(ParseMaxMemory(text).status().message()); };
  EXPECT_THAT(error(R"({"0": "40G"})"), HasSubstr("\"40GB\""));
  EXPECT_THAT(error(R"({"0": "40000000000"})"), HasSubstr("no unit"));
  EXPECT_THAT(error(R"({"0": -1})"), HasSubstr("\"0\" is -1, expected a size such as \"40GB\""));
  EXPECT_THAT(error(R"({"0": 1.5})"), HasSubstr("\"0\" is 1.5, expected a size"));
  EXPECT_THAT(error(R"({"0": null})"), HasSubstr("\"0\" is null, expected a size"));
  EXPECT_THAT(error(R"({"0": 99999999999999999999})"), HasSubstr("\"0\" is"));
  EXPECT_THAT(error(R"({"0": 9999999999999999999})"), HasSubstr("too large"));
  EXPECT_THAT(error(R"({"": "40GB"})"), HasSubstr("is no device"));
  EXPECT_THAT(error(R"({"0": "1GB", "cuda:0": "1GB"})"), HasSubstr("device 0 two budgets"));
  EXPECT_THAT(error(R"({"0": "1GB", "0": "1GB"})"), HasSubstr("max_memory"));
  EXPECT_THAT(error("{}"), HasSubstr("gives no device a budget"));
  EXPECT_THAT(error(R"({"0": "40GB")"), HasSubstr("max_memory"));
}

TEST(ParseMaxMemoryTest, NamesWhatIsWrong) {
  auto error = [](absl::string_view text) { return std::string(ParseMaxMemory(text).status().message()); };
  EXPECT_THAT(error("0:40G"), HasSubstr("\"40GB\""));
  EXPECT_THAT(error("gpu0:40GB"), HasSubstr("\"gpu0\""));
  EXPECT_THAT(error("-1:40GB"), HasSubstr("\"-1\""));
  EXPECT_THAT(error("0:40GB,0:50GB"), HasSubstr("device 0 two budgets"));
  EXPECT_THAT(error("1GB,2GB"), HasSubstr("every GPU two budgets"));
  EXPECT_THAT(error("0:auto"), HasSubstr("for cpu only"));
  EXPECT_THAT(error("0:40GB,"), HasSubstr("empty"));
}

}  // namespace
}  // namespace causeway
