#include "engine/architecture/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/architecture/parts.h"

namespace causeway {
namespace {

// The power function of float32 rounds correctly here; the field's vector one is within a unit in the last place of it.
float Power(float base, float exponent) { return static_cast<float>(std::pow(double{base}, double{exponent})); }

// theta^(2i / dim), i < dim / 2
std::vector<float> Wavelengths(float theta, int64_t dim) {
  std::vector<float> powers;
  for (int64_t i = 0; i < dim; i += 2) powers.push_back(Power(theta, static_cast<float>(i) / static_cast<float>(dim)));
  return powers;
}

std::vector<double> Inverse(const std::vector<float>& values) {
  std::vector<double> inverse;
  for (float value : values) inverse.push_back(1.0f / value);
  return inverse;
}

// The part of each head that is rotated.
double ReadPart(ConfigReader& rope, ConfigReader& config, double otherwise) {
  const double part = rope.Positive("partial_rotary_factor", config.Positive("partial_rotary_factor", otherwise));
  if (part > 1) rope.Invalid(absl::StrCat("partial_rotary_factor: expected a number up to 1, found ", part));
  return std::min(part, 1.0);
}

void ScaleLinear(ConfigReader& rope, RopeSpec& spec) {
  const double factor = rope.Positive("factor");
  for (double& f : spec.inv_freq) f = static_cast<float>(f) / static_cast<float>(factor);
  spec.stretch = std::max(1.0, factor);
}

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
void ScaleLlama3(ConfigReader& rope, double original, RopeSpec& spec) {
  const double factor = rope.Positive("factor");
  const double low = rope.Positive("low_freq_factor"), high = rope.Positive("high_freq_factor");
  if (rope.ok() && high <= low) {
    return rope.Invalid(absl::StrCat("high_freq_factor: expected more than low_freq_factor (", low, "), found ", high));
  }
  const float wavelength_long = static_cast<float>(original / low),
              wavelength_short = static_cast<float>(original / high);
  for (double& f : spec.inv_freq) {
    const float plain = static_cast<float>(f);
    const float wavelength = (1.0f / plain) * static_cast<float>(2 * std::numbers::pi);
    const float stretched = plain / static_cast<float>(factor);
    if (wavelength > wavelength_long) {
      f = stretched;
    } else if (wavelength >= wavelength_short) {
      const float smooth = ((1.0f / wavelength) * static_cast<float>(original) - static_cast<float>(low)) /
                           static_cast<float>(high - low);
      f = (1.0f - smooth) * plain / static_cast<float>(factor) + smooth * plain;
    }
  }
}

// YaRN: a ramp over the dimensions from kept to stretched frequencies, and a factor on cos and sin.
void ScaleYarn(ConfigReader& rope, double original, double max_positions, RopeSpec& spec) {
  // A null factor stands for the ratio of the lengths (DeepSeek's configs).
  const double factor = rope.Has("factor") ? rope.Positive("factor") : max_positions / original;
  rope.Skip("factor");
  if (max_positions == original) spec.stretch = std::max(1.0, factor);  // else these are the positions after stretching
  const std::optional<double> attention_factor = rope.OptionalNumber("attention_factor");
  const double mscale = rope.OptionalNumber("mscale").value_or(0);
  const double mscale_all_dim = rope.OptionalNumber("mscale_all_dim").value_or(0);
  // Zero means the default, as for a missing value.
  double beta_fast = rope.OptionalNumber("beta_fast").value_or(0),
         beta_slow = rope.OptionalNumber("beta_slow").value_or(0);
  if (beta_fast == 0) beta_fast = 32;
  if (beta_slow == 0) beta_slow = 1;
  const bool truncate = rope.Bool("truncate", true);
  if (rope.ok() && spec.theta <= 1)
    return rope.Invalid(absl::StrCat("rope_theta: yarn needs more than 1, found ", spec.theta));

  const auto temperature = [factor](double scale) { return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0; };
  if (attention_factor) {
    spec.attention_factor = *attention_factor;
  } else {
    spec.attention_factor =
        mscale != 0 && mscale_all_dim != 0 ? temperature(mscale) / temperature(mscale_all_dim) : temperature(1);
  }

  // The dimension whose wavelength fits `rotations` times into the original length.
  const double dim = static_cast<double>(spec.dim);
  const auto dimension_of = [&](double rotations) {
    return dim * std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(spec.theta));
  };
  double low = dimension_of(beta_fast), high = dimension_of(beta_slow);
  if (truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  const std::vector<float> wavelengths = Wavelengths(static_cast<float>(spec.theta), spec.dim);
  for (size_t i = 0; i < wavelengths.size(); ++i) {
    const float ramp =
        std::clamp((static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f, 1.0f);
    const float kept = 1.0f - ramp;
    const float stretched = 1.0f / (static_cast<float>(factor) * wavelengths[i]);
    spec.inv_freq[i] = stretched * (1.0f - kept) + (1.0f / wavelengths[i]) * kept;
  }
}

// LongRoPE: each wavelength stretched by a factor of its own, one list for texts up to the original length and one
// beyond.
void ScaleLongrope(ConfigReader& rope, int64_t original, double max_positions, RopeSpec& spec) {
  const std::vector<double> short_factors = rope.Numbers("short_factor"), long_factors = rope.Numbers("long_factor");
  const double lengths = static_cast<double>(original);
  const double factor = rope.Positive("factor", max_positions / lengths);
  const std::optional<double> attention_factor = rope.OptionalNumber("attention_factor");
  for (const auto& [name, factors] :
       {std::pair("short_factor", &short_factors), std::pair("long_factor", &long_factors)}) {
    if (rope.ok() && factors->size() != spec.inv_freq.size())
      rope.Invalid(absl::StrCat(name, ": expected ", spec.inv_freq.size(), " numbers, found ", factors->size()));
  }
  if (rope.ok() && !attention_factor && factor > 1 && original == 1)
    rope.Invalid("original_max_position_embeddings: longrope needs more than 1, found 1");
  if (!rope.ok()) return;
  const std::vector<float> wavelengths = Wavelengths(static_cast<float>(spec.theta), spec.dim);
  spec.long_inv_freq.resize(wavelengths.size());
  for (size_t i = 0; i < wavelengths.size(); ++i) {
    spec.inv_freq[i] = 1.0f / (static_cast<float>(short_factors[i]) * wavelengths[i]);
    spec.long_inv_freq[i] = 1.0f / (static_cast<float>(long_factors[i]) * wavelengths[i]);
  }
  spec.original = original;
  spec.attention_factor =
      attention_factor.value_or(factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(lengths)));
}

// Frequencies over the whole head of which only a part turns.
void ScaleProportional(ConfigReader& rope, ConfigReader& config, const RopeDefaults& defaults, RopeSpec& spec) {
  const double part = ReadPart(rope, config, defaults.partial.value_or(1));
  const float factor = static_cast<float>(rope.Positive("factor", 1));
  const size_t turning = static_cast<size_t>(part * static_cast<double>(spec.dim) / 2);
  for (size_t i = 0; i < spec.inv_freq.size(); ++i)
    spec.inv_freq[i] = i < turning ? static_cast<float>(spec.inv_freq[i]) / factor : 0;
}

void ReadDynamic(ConfigReader& rope, const RopeDefaults& defaults, RopeSpec& spec) {
  spec.dynamic_factor = spec.stretch = rope.Positive("factor");
  spec.original = defaults.max_positions;
  if (spec.dim <= 2)
    return rope.Invalid(absl::StrCat("dynamic rope needs more than 2 rotary dimensions, found ", spec.dim));
  if (rope.ok() && spec.dynamic_factor < 1) {
    rope.Invalid(absl::StrCat("factor: dynamic rope expects a number from 1 on, found ", spec.dynamic_factor));
  }
}

}  // namespace

RopeSpec ReadRope(ConfigReader& config, const RopeDefaults& defaults) {
  // The old key goes first when both are there, unless it is empty.
  const bool old = config.Has("rope_scaling") && !config.json()["rope_scaling"].empty();
  ConfigReader rope = config.Object(old ? "rope_scaling" : "rope_parameters");
  config.Skip("rope_scaling");
  config.Skip("rope_parameters");
  for (const auto& [key, value] : rope.json().items()) {
    if (value.is_object()) {
      config.Unsupported(absl::StrCat(old ? "rope_scaling" : "rope_parameters", ".", Printable(key),
                                      ": frequencies of their own for some layers are not supported"));
      return {};
    }
  }

  RopeSpec spec;
  const double theta_at_top = config.Positive("rope_theta", defaults.theta);
  spec.theta = rope.Positive("rope_theta", theta_at_top);
  spec.dim = defaults.head_dim;
  const std::string type = rope.String("rope_type|type", "default");
  if (defaults.partial && type != "proportional")
    spec.dim = static_cast<int64_t>(static_cast<double>(defaults.head_dim) * ReadPart(rope, config, *defaults.partial));
  if (spec.dim % 2 != 0 || spec.dim == 0)
    rope.Invalid(absl::StrCat("rotary dimensions: expected an even number, found ", spec.dim));
  spec.inv_freq = Inverse(Wavelengths(static_cast<float>(spec.theta), spec.dim));

  const auto original = [&] {  // a value at the top goes before the one inside
    const int64_t inside = rope.Int("original_max_position_embeddings", 1, kContextMax, defaults.max_positions);
    return config.Int("original_max_position_embeddings", 1, kContextMax, inside);
  };
  if (type == "default") {
    // How positions of images are divided: those of text are the same in every part.
    for (const char* key : {"mrope_section", "mrope_interleaved"}) rope.Skip(key);
  } else if (type == "linear") {
    ScaleLinear(rope, spec);
  } else if (type == "dynamic") {
    ReadDynamic(rope, defaults, spec);
  } else if (type == "llama3") {
    ScaleLlama3(rope, static_cast<double>(original()), spec);
  } else if (type == "yarn") {
    ScaleYarn(rope, static_cast<double>(original()), static_cast<double>(defaults.max_positions), spec);
  } else if (type == "longrope") {
    ScaleLongrope(rope, original(), static_cast<double>(defaults.max_positions), spec);
  } else if (type == "proportional") {
    ScaleProportional(rope, config, defaults, spec);
  } else {
    rope.Unsupported(
        absl::StrCat("rope_type \"", Printable(type),
                     "\" is not supported; expected default, linear, dynamic, llama3, yarn, longrope or proportional"));
  }
  rope.JudgeUnreadKeys();
  config.Merge(rope);
  return spec;
}

std::vector<double> InvFreqAt(const RopeSpec& spec, int64_t length) {
  if (length <= spec.original) return spec.inv_freq;
  if (!spec.long_inv_freq.empty()) return spec.long_inv_freq;
  const float stretch =
      static_cast<float>(spec.dynamic_factor) * static_cast<float>(length) / static_cast<float>(spec.original) -
      static_cast<float>(spec.dynamic_factor - 1);
  const float exponent = static_cast<float>(static_cast<double>(spec.dim) / static_cast<double>(spec.dim - 2));
  const float theta = static_cast<float>(spec.theta) * Power(stretch, exponent);
  return Inverse(Wavelengths(theta, spec.dim));
}

}  // namespace causeway
