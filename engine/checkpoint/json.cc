#include "engine/checkpoint/json.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status.h"
#include "engine/checkpoint/file.h"

namespace causeway {
namespace {

// Builds the tree from the parser's events. nlohmann's own builder keeps the last of two equal keys silently and nests
// without bound.
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  TreeBuilder(absl::string_view what, bool last_of_equal_keys) : what_(what), last_of_equal_keys_(last_of_equal_keys) {}

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return Fail("binary values are not JSON"); }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    if (!Count()) return false;
    auto [slot, is_new] = open_.back()->get_ref<Json::object_t&>().try_emplace(key);
    if (!is_new && !last_of_equal_keys_)
      return Fail(absl::StrCat("the key \"", Printable(key), "\" appears twice in one object"));
    value_ = &slot->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    // The text begins with the library's "[json.exception.parse_error.101] ".
    absl::string_view text = error.what();
    if (size_t bracket = text.find("] "); bracket != absl::string_view::npos) text.remove_prefix(bracket + 2);
    return Fail(absl::StrCat("not valid JSON at byte ", position, ": ", Printable(text, 300)));
  }

  absl::StatusOr<Json> Finish(bool complete) {
    if (!status_.ok()) return status_;
    if (!complete) return absl::InternalError(absl::StrCat(what_, ": the JSON parser stopped without an error"));
    return std::move(root_);
  }

 private:
  bool Fail(absl::string_view message) {
    status_ = absl::InvalidArgumentError(absl::StrCat(what_, ": ", message));
    return false;
  }

  bool Count() {
    if (++values_ <= kJsonValuesMax) return true;
    return Fail(absl::StrCat("more than ", kJsonValuesMax, " keys and values"));
  }

  // Puts a value at its place: the root, the end of the open array, or under the key just read.
  bool Add(Json value) {
    if (!Count()) return false;
    if (open_.empty()) {
      root_ = std::move(value);
      value_ = &root_;
    } else if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      value_ = &open_.back()->back();
    } else {
      *value_ = std::move(value);
    }
    return true;
  }

  bool Open(Json container) {
    if (open_.size() >= kJsonDepthMax) return Fail(absl::StrCat("nested deeper than ", kJsonDepthMax, " levels"));
    if (!Add(std::move(container))) return false;
    // The pointer stays valid while the container is open: its parent gets no other value until then.
    open_.push_back(value_);
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const std::string what_;
  const bool last_of_equal_keys_;
  Json root_;
  std::vector<Json*> open_;  // from the root inwards
  Json* value_ = nullptr;    // where the last value went, or where the one after a key goes
  size_t values_ = 0;
  absl::Status status_;
};

absl::StatusOr<Json> Parse(absl::string_view text, absl::string_view what, bool last_of_equal_keys) {
  TreeBuilder builder(what, last_of_equal_keys);
  const bool complete = Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.Finish(complete);
}

// The words for numbers that JSON doesn't have, outside of strings, become null.
std::string WithoutNotFinite(absl::string_view text) {
  std::string plain;
  bool in_string = false;
  while (!text.empty()) {
    if (!in_string && (absl::ConsumePrefix(&text, "NaN") || absl::ConsumePrefix(&text, "Infinity") ||
                       absl::ConsumePrefix(&text, "-Infinity"))) {
      plain += "null";
      continue;
    }
    const size_t bytes = in_string && text[0] == '\\' ? std::min<size_t>(2, text.size()) : 1;
    if (text[0] == '"') in_string = !in_string;
    plain.append(text.data(), bytes);
    text.remove_prefix(bytes);
  }
  return plain;
}

}  // namespace

absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view what) {
  return Parse(text, what, /*last_of_equal_keys=*/false);
}

absl::StatusOr<Json> ParseLenientJson(absl::string_view text, absl::string_view what) {
  return Parse(WithoutNotFinite(text), what, /*last_of_equal_keys=*/true);
}

absl::StatusOr<Json> ReadJsonFile(const std::string& path, size_t bytes_max) {
  CAUSEWAY_ASSIGN_OR_RETURN(std::string text, ReadSmallFile(path, bytes_max));
  return ParseJson(text, path);
}

absl::string_view JsonKind(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null: return "null";
    case Json::value_t::object: return "an object";
    case Json::value_t::array: return "an array";
    case Json::value_t::string: return "a string";
    case Json::value_t::boolean: return "a boolean";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned: return "an integer";
    case Json::value_t::number_float: return "a number";
    default: return "not JSON";
  }
}

std::string JsonExcerpt(const Json& value) {
  // A string or a small value is short to print. A large container would be printed whole, only to be cut.
  if (value.is_structured() && value.size() > 20) return absl::StrCat(JsonKind(value), " of ", value.size(), " values");
  return Printable(value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace), 60);
}

std::string Printable(absl::string_view text, size_t bytes_max) {
  std::string shown;
  for (char c : text.substr(0, bytes_max)) {
    if (c >= 0x20 && c < 0x7f) {
      shown += c;
    } else {
      absl::StrAppend(&shown, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  if (text.size() > bytes_max) shown += "...";
  return shown;
}

}  // namespace causeway
