#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(ClientTest, SaysThatNoDaemonAnswersAndWhatToDo) {
  Client client("127.0.0.1:1");  // a port nothing listens on
  const absl::Status status = client.GetStatus({.timeout = absl::Seconds(20)}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("no daemon answers at 127.0.0.1:1"));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("causewayd serve"));
}

}  // namespace
}  // namespace causeway
