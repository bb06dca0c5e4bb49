#include "server/rpc/model_defaults.h"

#include <limits>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Reader {
 public:
  Reader(const Json& config, std::vector<std::string>* warnings) : config_(config), warnings_(warnings) {}

  // `above` is a bound that the value must exceed, `max` one that it may reach.
  double Number(const char* key, double min, double above, double max, double fallback) {
    auto found = config_.find(key);
    if (found == config_.end() || found->is_null()) return fallback;
    if (found->is_number()) {
      const double value = found->get<double>();
      if (value >= min && value > above && value <= max) return value;
    }
    warnings_->push_back(absl::StrCat("generation_config.json: ", key, " is ", JsonExcerpt(*found),
                                      " and is left out; the default is ", fallback));
    return fallback;
  }

 private:
  const Json& config_;
  std::vector<std::string>* const warnings_;
};

}  // namespace

ModelDefaults ReadModelDefaults(const Json& generation_config, std::vector<std::string>* warnings) {
  ModelDefaults defaults;
  if (!generation_config.is_object()) return defaults;
  Reader reader(generation_config, warnings);
  defaults.temperature = reader.Number("temperature", 0, -kInfinity, 2, defaults.temperature);
  defaults.top_k =
      static_cast<int32_t>(reader.Number("top_k", 0, -kInfinity, std::numeric_limits<int32_t>::max(), defaults.top_k));
  defaults.top_p = reader.Number("top_p", 0, 0, 1, defaults.top_p);
  defaults.min_p = reader.Number("min_p", 0, -kInfinity, 1, defaults.min_p);
  defaults.typical_p = reader.Number("typical_p", 0, 0, 1, defaults.typical_p);
  defaults.repetition_penalty =
      reader.Number("repetition_penalty", 0, 0, std::numeric_limits<double>::max(), defaults.repetition_penalty);
  auto do_sample = generation_config.find("do_sample");
  if (do_sample != generation_config.end() && do_sample->is_boolean() && !do_sample->get<bool>())
    defaults.temperature = 0;
  return defaults;
}

}  // namespace causeway
