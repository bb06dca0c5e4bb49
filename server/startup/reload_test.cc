#include "server/startup/reload.h"

#include <cstdint>
#include <string>

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/message_differencer.h"
#include "server/startup/fields.h"

namespace causeway {
namespace {

using google::protobuf::util::MessageDifferencer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A value that is not the default.
std::string Another(const ConfigField& field) {
  const v1::FieldRules& rules = *field.rules;
  for (const std::string& text : rules.one_of()) {
    if (text != rules.default_()) return text;
  }
  if (field.is_bool()) return rules.default_() == "true" ? "false" : "true";
  if (field.is_text()) return "another";
  return absl::StrCat(static_cast<int64_t>(rules.max()));
}

TEST(Reload, NothingChangedIsNothingTaken) {
  const ReloadedConfig same = Reload(DefaultConfig(), DefaultConfig());
  EXPECT_THAT(same.taken, IsEmpty());
  EXPECT_THAT(same.refused, IsEmpty());
  EXPECT_TRUE(MessageDifferencer::Equals(same.config, DefaultConfig()));
}

// Each field by itself: it is either taken, or named and left as it was.
TEST(Reload, EveryFieldIsTakenOrRefusedByName) {
  int taken = 0;
  for (const ConfigField& field : ConfigFields()) {
    v1::Config read = DefaultConfig();
    ASSERT_TRUE(SetField(field, Another(field), &read).ok()) << field.path << " " << Another(field);
    ASSERT_FALSE(MessageDifferencer::Equals(read, DefaultConfig())) << field.path;
    const ReloadedConfig reloaded = Reload(DefaultConfig(), read);
    taken += field.rules->reloadable();
    if (field.rules->reloadable()) {
      EXPECT_THAT(reloaded.taken, ElementsAre(field.path));
      EXPECT_THAT(reloaded.refused, IsEmpty());
      EXPECT_TRUE(MessageDifferencer::Equals(reloaded.config, read)) << field.path;
    } else {
      EXPECT_THAT(reloaded.taken, IsEmpty());
      EXPECT_THAT(reloaded.refused, ElementsAre(field.path));
      EXPECT_TRUE(MessageDifferencer::Equals(reloaded.config, DefaultConfig())) << field.path;
    }
  }
  EXPECT_EQ(taken, 4) << "a field that became reloadable needs its line in DaemonImpl::ReadAgain";
}

TEST(Reload, TakesWhatItCanBesideWhatItCannot) {
  v1::Config running = DefaultConfig(), read = running;
  read.mutable_batching()->set_queue_limit(7);
  read.mutable_batching()->set_max_num_seqs(8);
  read.mutable_server()->set_layer_outputs_bytes_max(0);
  read.mutable_log()->set_level("error");
  read.mutable_log()->set_format("json");
  const ReloadedConfig reloaded = Reload(running, read);
  EXPECT_THAT(reloaded.taken, ElementsAre("batching.queue_limit", "server.layer_outputs_bytes_max", "log.level"));
  EXPECT_THAT(reloaded.refused, ElementsAre("batching.max_num_seqs", "log.format"));
  EXPECT_EQ(reloaded.config.batching().queue_limit(), 7);
  EXPECT_EQ(reloaded.config.batching().max_num_seqs(), 64);
  EXPECT_EQ(reloaded.config.server().layer_outputs_bytes_max(), 0);
  EXPECT_EQ(reloaded.config.log().format(), "text");
  // What needs a restart is named again by the next reload.
  EXPECT_THAT(Reload(reloaded.config, read).refused, ElementsAre("batching.max_num_seqs", "log.format"));
  EXPECT_THAT(Reload(reloaded.config, read).taken, IsEmpty());
}

}  // namespace
}  // namespace causeway
