// The nonlinearities of feed-forward parts.
#ifndef CAUSEWAY_ENGINE_BASE_ACTIVATION_H_
#define CAUSEWAY_ENGINE_BASE_ACTIVATION_H_

namespace causeway {

// The order is the kernels' (engine/ops/cpu/activation-inl.h).
enum class Activation { kSilu, kGelu /* exact, erf */, kGeluTanh /* gelu_new, gelu_pytorch_tanh, gelu_fast */, kRelu };

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_ACTIVATION_H_
