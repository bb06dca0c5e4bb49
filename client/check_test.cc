#include "client/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using testing::HasSubstr;

TEST(CheckTest, AnAddressIsHostAndPort) {
  for (const char* good : {"127.0.0.1:50051", "localhost:1", "gpu-3.example.org:65535", "[::1]:50051"}) {
    EXPECT_TRUE(CheckAddress(good).ok()) << good;
  }
  for (const char* bad : {"", "localhost", "localhost:", ":50051", "localhost:0", "localhost:99999", "localhost:+1",
                          "localhost:5x", "http://localhost:50051", "::1:50051", "[]:50051", "a b:1"}) {
    const absl::Status status = CheckAddress(bad);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("expected HOST:PORT"));
  }
}

TEST(CheckTest, KnowsTheLoopbackInterface) {
  for (const char* near : {"127.0.0.1:1", "127.1.2.3:1", "localhost:1", "[::1]:1"})
    EXPECT_TRUE(IsLoopback(near)) << near;
  for (const char* far : {"10.0.0.1:1", "localhost.example.org:1", "[::2]:1"}) EXPECT_FALSE(IsLoopback(far)) << far;
}

TEST(CheckTest, NamesTheTextThatIsNoUtf8) {
  const auto error = [](const std::string& prompt) {
    v1::GenerateRequest request;
    request.set_prompt(prompt);
    return std::string(CheckText(request).message());
  };
  for (const char* good : {"", "plain", "\u00e9\u0800\ud7ff\ue000\uffff", "\U00010000\U0010ffff"})
    EXPECT_EQ(error(good), "") << good;
  EXPECT_EQ(error("ab\xff"), "the prompt is not valid UTF-8 (at byte 2)");
  // These are cut off, overlong, a surrogate, above U+10FFFF, and a continuation alone.
  for (const char* bad : {"\xe2\x82", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\x80", "\xc3z"}) {
    EXPECT_THAT(error(bad), HasSubstr("at byte 0"));
  }
  v1::GenerateRequest request;
  request.mutable_chat()->add_messages()->set_role("user");
  request.mutable_chat()->mutable_messages(0)->set_content("\xff");
  EXPECT_THAT(std::string(CheckText(request).message()), HasSubstr("the user's message"));
  request.mutable_chat()->mutable_messages(0)->set_content("fine");
  request.mutable_stop()->add_strings("\xff");
  EXPECT_THAT(std::string(CheckText(request).message()), HasSubstr("a stop string"));
  request.clear_stop();
  v1::GrammarOptions& grammar = *request.mutable_grammar();
  grammar.set_json_schema("{\"\xff\"}");
  EXPECT_EQ(CheckText(request).message(), "the JSON schema is not valid UTF-8 (at byte 2)");
  grammar.set_regex("\xff");
  EXPECT_THAT(std::string(CheckText(request).message()), HasSubstr("the regular expression"));
  grammar.set_lark("\xff");
  EXPECT_THAT(std::string(CheckText(request).message()), HasSubstr("the grammar"));
  grammar.mutable_choice()->add_texts("fine");
  grammar.mutable_choice()->add_texts("\xff");
  EXPECT_THAT(std::string(CheckText(request).message()), HasSubstr("a choice"));
}

}  // namespace
}  // namespace causeway
