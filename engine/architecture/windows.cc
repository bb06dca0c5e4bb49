#include "engine/architecture/windows.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/architecture/parts.h"

namespace causeway {

Windows ReadWindow(ConfigReader& config, int64_t otherwise) {
  // Published configs write null for none, and the field's class has a default for an absent key.
  const bool absent = !config.json().contains("sliding_window");
  return {.width = config.OptionalInt("sliding_window", 1, kContextMax).value_or(absent ? otherwise : 0)};
}

Windows NoWindow(ConfigReader& config) {
  config.Skip("sliding_window");
  return {};
}

Windows ReadSwitchedWindow(ConfigReader& config) {
  const bool on = config.Bool("use_sliding_window", false);
  Windows windows = on ? ReadWindow(config, 4096) : NoWindow(config);
  windows.first = config.Int("max_window_layers", 0, kLayersMax, 28);
  windows.by_layer = true;
  return windows;
}

std::vector<int64_t> WindowsOfLayers(ConfigReader& config, const Windows& windows, int64_t layers) {
  std::vector<int64_t> widths(layers, windows.width);
  for (int64_t i = 0; i < std::min(windows.first, layers); ++i) widths[i] = 0;
  config.Skip("layer_types");
  if (!config.Has("layer_types")) return widths;
  const Json& types = config.json()["layer_types"];
  if (!types.is_array() || types.size() != widths.size()) {
    config.Invalid(absl::StrCat("layer_types: expected a list of ", layers, ", one for each layer, found ",
                                types.is_array() ? absl::StrCat("one of ", types.size()) : JsonExcerpt(types)));
    return widths;
  }
  for (size_t i = 0; i < widths.size(); ++i) {
    const bool sliding = types[i] == "sliding_attention";
    if (!sliding && types[i] != "full_attention") {
      config.Unsupported(absl::StrCat("layer_types: ", JsonExcerpt(types[i]),
                                      " is not supported; expected \"full_attention\" or \"sliding_attention\""));
      break;
    }
    if (sliding == (widths[i] > 0)) continue;
    if (!windows.by_layer) {
      config.Unsupported(
          absl::StrCat("layer_types: layer ", i, " is ", JsonExcerpt(types[i]), ", which is not supported here: ",
                       sliding ? "no layer has a sliding window" : "every layer has the sliding window"));
      break;
    }
    if (sliding && windows.width == 0) {
      config.Invalid(
          absl::StrCat("layer_types: layer ", i, " is \"sliding_attention\", but there is no sliding window"));
      break;
    }
    widths[i] = sliding ? windows.width : 0;
  }
  return widths;
}

}  // namespace causeway
