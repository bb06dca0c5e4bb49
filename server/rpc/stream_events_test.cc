#include "server/rpc/stream_events.h"

#include <string>

#include <gtest/gtest.h>

#include "server/rpc/fake_engine.h"

namespace causeway {
namespace {

TEST(StreamEvents, MergesWhatWaits) {
  GenerationRequest request;
  request.request_id = "r";
  request.n = 2;
  request.prompt = {1, 2, 3};
  StreamEvents events(request, {.token_ids = true, .logprobs = true, .echo_text = "E", .echo_ids = {1, 2, 3}});
  for (int i = 0; i < 100; ++i) events.Add(FakeEngine::Delta("x", {i}, i % 2));
  events.End(FakeEngine::End(FinishReason::kLength, 2));
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(events.Next(&message));
  EXPECT_EQ(message.accepted().prompt_tokens(), 3);
  for (int index : {0, 1}) {  // one message for each choice, whatever came
    ASSERT_TRUE(events.Next(&message));
    EXPECT_EQ(message.request_id(), "r");
    EXPECT_EQ(message.delta().index(), index);
    EXPECT_EQ(message.delta().text(), "E" + std::string(50, 'x'));
    EXPECT_EQ(message.delta().token_ids_size(), 53);
    EXPECT_EQ(message.delta().logprobs_size(), 50);
  }
  ASSERT_TRUE(events.Next(&message));
  EXPECT_EQ(message.finished().choices(1).finish_reason(), v1::LENGTH);
  EXPECT_EQ(message.finished().usage().generated_tokens(), 5);
  EXPECT_FALSE(events.Next(&message));
}

TEST(StreamEvents, NoMessageIsTooLargeForAClient) {
  StreamEvents events(GenerationRequest(), {.logprobs = true});
  std::string sent;
  for (int i = 0; i < 50'000; ++i) events.Add(FakeEngine::Delta(std::string(40, static_cast<char>('a' + i % 26)), {i}));
  v1::GenerateStreamResponse message;
  int deltas = 0;
  while (events.Next(&message)) {
    EXPECT_LE(message.ByteSizeLong(), kMergedDeltaBytes + 100);
    deltas += message.has_delta();
    sent += message.delta().text();
  }
  EXPECT_GT(deltas, 5);
  EXPECT_LT(deltas, 50);
  ASSERT_EQ(sent.size(), 40u * 50'000);
  EXPECT_EQ(sent[40 * 27], 'b');
}

TEST(StreamEvents, HeldBackTextIsNoMessage) {
  StreamEvents events(GenerationRequest(), {});
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(events.Next(&message));
  events.Add(FakeEngine::Delta("", {7}));
  EXPECT_FALSE(events.Next(&message));
}

}  // namespace
}  // namespace causeway
