#include "client/status_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_split.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::GetStatusResponse Status() {
  constexpr int64_t kMiB = 1 << 20;
  v1::GetStatusResponse status;
  status.set_model("kjv");
  status.set_state(v1::SERVING);
  v1::DeviceStatus* device = status.add_devices();
  device->set_name("simulated:0");
  device->set_model("simulated on the CPU");
  device->set_holds("embeddings, layers 0-2");
  device->set_budget_bytes(48 * kMiB);
  device->mutable_planned()->set_weights(12 * kMiB);
  device->mutable_planned()->set_kv_cache(12 * kMiB);
  device->mutable_planned()->set_activations(12 * kMiB);
  device->mutable_memory()->set_weights(12 * kMiB);
  device->mutable_memory()->set_kv_cache(12 * kMiB);
  device->mutable_memory()->set_activations_peak(4 * kMiB);
  device->mutable_memory()->set_workspace(2 * kMiB);
  device->set_free_bytes(18 * kMiB);
  v1::DeviceStatus* unused = status.add_devices();
  unused->set_name("simulated:1");
  unused->set_budget_bytes(kMiB);
  v1::DeviceStatus* cpu = status.add_devices();
  cpu->set_name("cpu");
  cpu->mutable_memory()->set_other(100 * kMiB);
  return status;
}

TEST(StatusText, ShowsUsedAbovePlanned) {
  const std::string text = StatusText(Status(), /*color=*/false);
  EXPECT_THAT(
      text,
      HasSubstr(
          "simulated:0  used       12.0 MiB    12.0 MiB     4.0 MiB     2.0 MiB           -    18.0 MiB    48.0 MiB  "
          "██████▓▓▓▓▓▓▒▒▒·········\n"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "             planned    12.0 MiB    12.0 MiB    12.0 MiB           -           -    12.0 MiB    48.0 MiB  "
          "██████▓▓▓▓▓▓▒▒▒▒▒▒······\n"));
  EXPECT_THAT(text, HasSubstr("embeddings, layers 0-2 (simulated on the CPU)\n"));
  EXPECT_THAT(text, HasSubstr("simulated:1  holds no part of the model, 1.0 MiB\n"));
  EXPECT_THAT(text, HasSubstr("process      100.0 MiB beside these"));
  EXPECT_THAT(text, Not(HasSubstr("\033")));
  EXPECT_THAT(StatusText(Status(), /*color=*/true), HasSubstr("\033[34mweights\033[0m"));
}

TEST(StatusText, SaysWhereDevicesStandAmongSeveral) {
  v1::GetStatusResponse status = Status();
  EXPECT_THAT(StatusText(status, /*color=*/false), Not(HasSubstr("stage")));
  v1::DeviceStatus* device = status.add_devices();
  device->set_name("simulated:2");
  device->set_model("simulated on the CPU");
  device->set_budget_bytes(1 << 20);
  device->set_holds("layers 3-5, head");
  device->set_busy_seconds(3);
  device->set_active_seconds(4);
  device->mutable_place()->set_stage(1);
  device->mutable_place()->set_rank(1);
  const std::string text = StatusText(status, /*color=*/false);
  EXPECT_THAT(text,
              HasSubstr("layers 3-5, head (simulated on the CPU), stage 1, rank 1, busy 75% of the steps' time\n"));
  EXPECT_THAT(text, HasSubstr("embeddings, layers 0-2 (simulated on the CPU), stage 0, rank 0"));
  EXPECT_THAT(text, Not(HasSubstr("replica")));
}

TEST(StatusText, IsDrawnOverTheOneBefore) {
  EXPECT_EQ(Redraw("a\nb\n", /*first=*/true), "\033[2J\033[Ha\033[K\nb\033[K\n\033[J");
  EXPECT_EQ(Redraw("a\n", /*first=*/false), "\033[Ha\033[K\n\033[J");
}

}  // namespace
}  // namespace causeway
