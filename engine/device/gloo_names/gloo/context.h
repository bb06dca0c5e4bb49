// PyTorch's wheel has Gloo's code and not its headers. ProcessGroupGloo.hpp needs these names; nobody here uses what
// is behind them.
#ifndef CAUSEWAY_ENGINE_DEVICE_GLOO_NAMES_GLOO_CONTEXT_H_
#define CAUSEWAY_ENGINE_DEVICE_GLOO_NAMES_GLOO_CONTEXT_H_

#include <chrono>
#include <string>
#include <vector>

namespace gloo {

class Context {  // of which only this is called
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

namespace rendezvous {
class Store {
 public:
  virtual ~Store() = default;
  virtual void set(const std::string& key, const std::vector<char>& value) = 0;
  virtual std::vector<char> get(const std::string& key) = 0;
  virtual void wait(const std::vector<std::string>& keys) = 0;
  virtual void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) = 0;
};
}  // namespace rendezvous

}  // namespace gloo

#endif  // CAUSEWAY_ENGINE_DEVICE_GLOO_NAMES_GLOO_CONTEXT_H_
