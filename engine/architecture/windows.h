// Which layers attend to a sliding window only: from the keys for it that relatives of Llama have, and from
// layer_types.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_WINDOWS_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_WINDOWS_H_

#include <cstdint>
#include <vector>

#include "engine/architecture/config_reader.h"

namespace causeway {

struct Windows {
  int64_t width = 0;  // a token attends to itself and the width - 1 before it; 0: to all
  int64_t first = 0;  // the first layer with the window
  // layer_types says which layers have it; else it may only repeat what is said above.
  bool by_layer = false;
};

// sliding_window on every layer; `otherwise` where the key is absent, none where it is null.
Windows ReadWindow(ConfigReader& config, int64_t otherwise);
// None; what sliding_window says where it is switched off is not looked at.
Windows NoWindow(ConfigReader& config);
// sliding_window (4096) where use_sliding_window is on, and there from layer max_window_layers (28) on, or as
// layer_types says.
Windows ReadSwitchedWindow(ConfigReader& config);

// The window of each layer, 0: none, after a look at layer_types. Errors go to `config`.
std::vector<int64_t> WindowsOfLayers(ConfigReader& config, const Windows& windows, int64_t layers);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_WINDOWS_H_
