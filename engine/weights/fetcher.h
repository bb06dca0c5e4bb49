// Where a model gets the weights from that its device computes from and does not hold.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_FETCHER_H_
#define CAUSEWAY_ENGINE_WEIGHTS_FETCHER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/ops/ops.h"

namespace causeway {

// One thread at a time. What cannot be read is a c10::Error that says what and why.
class WeightFetcher {
 public:
  virtual ~WeightFetcher() = default;

  // While a model is built. Whether the weight of this tensor, or the table, is not held.
  virtual bool Offloads(const std::string& tensor) const = 0;
  // An unfilled weight on a device: the model's or, to be computed from there, the CPU; null: it cannot be there.
  using MakeWeight = std::function<std::unique_ptr<LinearWeight>(at::Device)>;
  // Takes charge of what `make` makes, which has no memory from then on. It is used in every step, after the one
  // adopted before it, or, being an expert's of the layer `experts_of`, only when it is expected.
  virtual std::shared_ptr<LinearWeight> Adopt(const std::string& tensor, std::optional<int> experts_of,
                                              const MakeWeight& make) = 0;

  // While it runs: adopted weights that are about to be acquired, in this order, for so many rows.
  struct Use {
    const LinearWeight* weight = nullptr;
    int64_t rows = 0;
  };
  virtual void Expect(const std::vector<Use>& uses) = 0;
  // What to compute from in work started before Release on this thread: the weight, which is there now, or the same in
  // CPU memory.
  virtual const LinearWeight& Acquire(const LinearWeight& weight) = 0;
  virtual void Release(const LinearWeight& weight) = 0;
  // Rows of an offloaded table: ids int64 [n] -> [n, columns] of the computation's dtype, on the device.
  virtual at::Tensor Rows(const std::string& tensor, const at::Tensor& ids) = 0;
};

// Acquires while it lives; fetcher may be null.
class FetchedWeight {
 public:
  FetchedWeight(WeightFetcher* fetcher, const LinearWeight& weight)
      : weight(fetcher != nullptr ? fetcher->Acquire(weight) : weight), fetcher_(fetcher), adopted_(weight) {}
  ~FetchedWeight() {
    if (fetcher_ != nullptr) fetcher_->Release(adopted_);
  }
  FetchedWeight(const FetchedWeight&) = delete;
  FetchedWeight& operator=(const FetchedWeight&) = delete;

  const LinearWeight& weight;

 private:
  WeightFetcher* const fetcher_;
  const LinearWeight& adopted_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_FETCHER_H_
