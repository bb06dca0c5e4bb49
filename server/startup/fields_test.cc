#include "server/startup/fields.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/limits.h"
#include "google/protobuf/descriptor.h"
#include "server/startup/field_help.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

TEST(Fields, TheSchemaIsConsistent) {
  std::set<std::string> flags;
  for (const ConfigField& field : ConfigFields()) {
    EXPECT_FALSE(field.flag().empty()) << field.path;
    EXPECT_TRUE(flags.insert(field.flag()).second) << field.flag() << " names two fields";
    EXPECT_TRUE(field.is_text() || !field.rules->default_().empty()) << field.path << " needs a default";
    if (field.field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_INT64) {
      EXPECT_TRUE(field.rules->has_min() && field.rules->has_max()) << field.path << " needs a range";
    }
  }
  EXPECT_EQ(FindFieldByPath("batching.max_model_len")->rules->max(), kModelLenMax);
  // This dies when a default breaks its own range.
  const v1::Config config = DefaultConfig();
  EXPECT_EQ(config.batching().max_num_seqs(), 64);
  EXPECT_EQ(config.server().listen(), "127.0.0.1:50051");
}

TEST(Fields, EveryFieldAndSectionHasItsText) {
  std::set<std::string> texts;
  for (const FieldHelp& entry : kFieldHelp) {
    EXPECT_STRNE(entry.text, "") << entry.path;
    texts.insert(entry.path);
  }
  for (const ConfigField& field : ConfigFields()) {
    EXPECT_TRUE(texts.contains(field.path)) << field.path;
    EXPECT_TRUE(texts.contains(field.section->name())) << field.section->name();
  }
}

TEST(Fields, SetsWhatFitsAndRefusesTheRest) {
  v1::Config config;
  const ConfigField& seqs = *FindFieldByPath("batching.max_num_seqs");
  EXPECT_TRUE(SetField(seqs, "4096", &config).ok());
  EXPECT_EQ(config.batching().max_num_seqs(), 4096);
  for (const char* text : {"0", "4097", "-1", "many", "1.5", "", "9999999999999999999999"}) {
    const absl::Status status = SetField(seqs, text, &config);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(status.message(), absl::StrCat("expected a whole number in [1, 4096], got \"", text, "\""));
  }
  EXPECT_EQ(config.batching().max_num_seqs(), 4096);
  const ConfigField& drain = *FindFieldByPath("server.drain_seconds");
  EXPECT_TRUE(SetField(drain, "0.5", &config).ok());
  EXPECT_FALSE(SetField(drain, "nan", &config).ok());
  EXPECT_FALSE(SetField(drain, "inf", &config).ok());
  EXPECT_EQ(config.server().drain_seconds(), 0.5);
  EXPECT_FALSE(SetField(*FindFieldByFlag("prefix-cache"), "yes", &config).ok());
  EXPECT_THAT(std::string(SetField(*FindFieldByFlag("dtype"), "int8", &config).message()),
              HasSubstr("one of auto, bf16"));
}

TEST(Fields, SuggestsTheNearestName) {
  const std::vector<std::string> names = {"max_num_seqs", "max_model_len", "queue_limit"};
  EXPECT_EQ(Suggestion("max_num_seq", names), ", did you mean max_num_seqs?");
  EXPECT_EQ(Suggestion("max_model", names), ", did you mean max_model_len?");
  EXPECT_EQ(Suggestion("queue_limits", names), ", did you mean queue_limit?");
  EXPECT_EQ(Suggestion("colour", names), "");
}

}  // namespace
}  // namespace causeway
