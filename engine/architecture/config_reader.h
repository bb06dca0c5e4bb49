// Typed reading of config.json that collects every complaint, and knows at the end which keys nobody asked for.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_CONFIG_READER_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_CONFIG_READER_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/json.h"

namespace causeway {

// A getter that fails notes an error and returns a harmless value (the smallest whole number allowed, 1, nothing, or
// the default), so that one run reports all that is wrong; check ok() before building on what was read. A key may list
// spellings: "n_embd|hidden_size"; the first that is present counts. null counts as absent, as everywhere in the field.
class ConfigReader {
 public:
  // `config` must outlive the reader. `what` begins every message: "config.json".
  ConfigReader(const Json& config, std::string what);

  // Whole numbers in [min, max]; the first form is an error when absent.
  int64_t Int(absl::string_view key, int64_t min, int64_t max);
  int64_t Int(absl::string_view key, int64_t min, int64_t max, int64_t otherwise);
  std::optional<int64_t> OptionalInt(absl::string_view key, int64_t min, int64_t max);
  // Numbers above zero, and from zero on.
  double Positive(absl::string_view key);
  double Positive(absl::string_view key, double otherwise);
  std::optional<double> OptionalNumber(absl::string_view key);
  bool Bool(absl::string_view key, bool otherwise);
  std::string String(absl::string_view key, const std::string& otherwise);
  // A whole number or a list of them; empty when absent. `what` names one of them in errors.
  std::vector<int64_t> Ids(absl::string_view key, absl::string_view what = "a token id");
  // Numbers above zero; an error when absent or not a list.
  std::vector<double> Numbers(absl::string_view key);
  // A reader of the object under `key`, or of an empty one. Merge() its complaints when done with it.
  ConfigReader Object(absl::string_view key);
  void Merge(const ConfigReader& inner);

  // True when present and not null; leaves the key unread.
  bool Has(absl::string_view key) const;
  // The keys and values beneath this reader's object.
  const Json& json() const { return *config_; }
  // Counts the key as read.
  void Skip(absl::string_view key);

  // Notes an error of the caller's own finding; the message follows "config.json: ".
  void Invalid(absl::string_view message);
  void Unsupported(absl::string_view message);

  // Judges the keys that nobody has read: known to change the computation (and not at its neutral value) is
  // unsupported, known to be inert is silent, and every other one gets a warning.
  void JudgeUnreadKeys();

  bool ok() const { return invalid_.empty() && unsupported_.empty(); }
  // InvalidArgument or, when that is all there is, Unimplemented; every complaint in one message.
  absl::Status status() const;
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  // The value under the first spelling that is present, marked as read; null when there is none.
  const Json* Find(absl::string_view key);
  std::optional<double> Number(absl::string_view key, double min);  // 1 on an error
  void Expected(absl::string_view key, absl::string_view expected, const Json* found);

  const Json* config_;
  std::string what_;
  std::set<std::string> read_;
  std::vector<std::string> invalid_, unsupported_, warnings_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_CONFIG_READER_H_
