// Takes the pages of memory that was reserved, so that what was promised at startup is really held.
#ifndef CAUSEWAY_ENGINE_DEVICE_PAGE_TOUCHER_H_
#define CAUSEWAY_ENGINE_DEVICE_PAGE_TOUCHER_H_

#include <atomic>
#include <thread>
#include <vector>

#include "absl/types/span.h"

namespace causeway {

// Most of a large cache's start is the kernel clearing its pages: work for all processors, and for those that other
// work leaves idle. What the memory holds stays as it is. One call at a time.
class PageToucher {
 public:
  PageToucher() = default;
  ~PageToucher();
  PageToucher(const PageToucher&) = delete;
  PageToucher& operator=(const PageToucher&) = delete;

  // Must stay mapped until Finish() has returned or the toucher is gone. Not between Start and Finish.
  void Add(absl::Span<char> memory);
  // Begins on `threads` more threads, and returns at once.
  void Start(int threads);
  // Every page is there when it returns. `threads` more threads take part, this one among them.
  void Finish(int threads);

 private:
  bool TouchNext();  // false: none is left
  void Join();

  std::vector<absl::Span<char>>
      pieces_;  // none has a huge page in common with another, as far as what was added allows
  std::atomic<size_t> next_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_PAGE_TOUCHER_H_
