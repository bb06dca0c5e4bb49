// Choosing among the candidates of shares, beside choosing from whole rows.
#include "engine/ops/candidates.h"

#include <limits>
#include <random>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/IListRef.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "engine/ops/reference.h"

namespace causeway {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

class CandidatesTest : public ::testing::Test {
 protected:
  int64_t Between(int64_t least, int64_t most) { return std::uniform_int_distribution<int64_t>(least, most)(random_); }
  bool Chance(int one_in) { return Between(1, one_in) == 1; }

  SamplingParams Params(int64_t vocab) {
    SamplingParams p;
    p.temperature = Chance(4) ? 0 : static_cast<double>(Between(1, 20)) / 10;
    p.top_k = static_cast<int32_t>(Chance(4) ? 1 : Between(1, std::min(vocab - 1, kCandidatesMax)));
    if (Chance(2)) p.top_p = static_cast<double>(Between(1, 100)) / 100;
    if (Chance(3)) p.min_p = static_cast<double>(Between(0, 50)) / 100;
    if (Chance(3)) p.typical_p = static_cast<double>(Between(1, 100)) / 100;
    return p;
  }

  at::Tensor Logits(int64_t rows, int64_t vocab) {
    at::Tensor logits = at::randn({rows, vocab}) * 3;
    if (Chance(3)) logits.round_();  // the likeliest tie, within shares and across them
    if (Chance(2)) logits = logits.to(at::kBFloat16);
    if (Chance(3)) logits[0].fill_(static_cast<double>(Between(-1, 1)));
    const double odd[] = {kInf, -kInf, std::numeric_limits<double>::quiet_NaN()};
    if (Chance(3)) logits[1][Between(0, vocab - 1)] = odd[Between(0, 2)];
    if (Chance(5)) logits[1].fill_(odd[Between(1, 2)]);
    return logits;
  }

  // A share may be smaller than the candidates asked of it.
  std::vector<int64_t> Shares(int64_t vocab) {
    std::vector<int64_t> widths;
    for (int64_t left = vocab; left > 0; left -= widths.back())
      widths.push_back(widths.size() == 3 ? left : std::min(left, 32 * Between(1, vocab / 32 + 1)));
    return widths;
  }

  std::mt19937_64 random_{11};
};

TEST_F(CandidatesTest, ChoicesAreThoseFromWholeRows) {
  const c10::InferenceMode inference;
  int64_t drawn = 0, fewer = 0;
  for (int round = 0; round < 200; ++round) {
    const int64_t n = 4, vocab = Between(20, round % 10 == 0 ? 20'000 : 1'500);
    const at::Tensor logits = Logits(n, vocab);
    std::vector<SamplingParams> params;
    for (int64_t i = 0; i < n; ++i) params.push_back(Params(vocab));
    std::vector<SampleRow> rows(n);
    int64_t count = 1;
    for (int64_t i = 0; i < n; ++i) {
      rows[i].params = &params[i];
      rows[i].uniform = static_cast<double>(Between(0, 999'999)) / 1e6;
      if (Chance(10)) rows[i].given = static_cast<int32_t>(Between(0, vocab - 1));
      const int64_t wanted = CandidatesFor(params[i], vocab);
      ASSERT_GT(wanted, 0);
      count = std::max(count, wanted);
      drawn += wanted > 1;
    }
    std::vector<at::Tensor> host, device;
    int64_t first = 0;
    for (const int64_t width : Shares(vocab)) {
      const at::Tensor share = logits.narrow(1, first, width);
      host.push_back(CandidatesOnHost(share, count, first));
      device.push_back(CandidatesOnDevice(share, count, first));
      ASSERT_EQ(host.back().size(1), CandidateColumns(count));
      first += width;
      fewer += width < count;
    }
    const std::vector<SampleOutput> whole = SampleOnHost(logits, rows),
                                    among = SampleAmong(at::cat(host, 1), count, rows),
                                    elsewhere = SampleAmong(at::cat(device, 1), count, rows);
    for (int64_t i = 0; i < n; ++i) {
      SCOPED_TRACE(testing::Message() << "round " << round << ", row " << i << " of " << vocab << " tokens");
      EXPECT_EQ(among[i].finite, whole[i].finite);
      EXPECT_EQ(elsewhere[i].finite, whole[i].finite);
      EXPECT_EQ(among[i].token, whole[i].token);
      if (whole[i].finite) {
        EXPECT_EQ(elsewhere[i].token, whole[i].token);
      }
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(drawn, 300);
  EXPECT_GT(fewer, 100);
}

}  // namespace
}  // namespace causeway
