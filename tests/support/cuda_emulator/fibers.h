// The threads of a block as fibers of one thread of the system: each runs until it suspends itself.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_FIBERS_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_FIBERS_H_

#include <cstddef>
#include <functional>
#include <vector>

#include <boost/context/detail/fcontext.hpp>

namespace causeway::cuda_emulator {

class Fibers {
 public:
  explicit Fibers(int count_max);
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  // Makes `count` fibers that will run `body`. Those from before are gone wherever they were suspended: nothing on
  // their stacks is destroyed, so that a body must own nothing while it is suspended.
  void Start(int count, const std::function<void()>& body);
  // Runs a fiber until it calls Suspend or its body has returned, after which it must not be resumed.
  void Resume(int fiber);
  // Returns to the caller of Resume. Only a fiber calls it, also from a signal handler on the fiber's stack.
  void Suspend();

 private:
  static void Enter(boost::context::detail::transfer_t from);
  char* stack(int fiber) const;

  const int count_max_;
  char* stacks_ = nullptr;  // each has a page without access below it
  const std::function<void()>* body_ = nullptr;
  std::vector<boost::context::detail::fcontext_t> fibers_;
  boost::context::detail::fcontext_t resumer_ = nullptr;
  // The resumer's stack, which the address sanitizer tells a fiber when it arrives.
  const void* resumer_stack_ = nullptr;
  size_t resumer_stack_bytes_ = 0;
};

}  // namespace causeway::cuda_emulator

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_FIBERS_H_
