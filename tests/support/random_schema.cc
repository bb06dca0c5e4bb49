#include "tests/support/random_schema.h"

#include <regex>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

using Json = nlohmann::json;

const char* const kPatterns[] = {"^[a-z]{1,6}$", "^(yes|no|maybe)$", "^[0-9]{3}-[0-9]{4}$",
                                 "^[A-Z][a-z]{0,4}( [A-Z][a-z]{0,4})?$"};

int Below(std::mt19937_64& random, int n) { return static_cast<int>(random() % static_cast<uint64_t>(n)); }

Json RandomObject(std::mt19937_64& random, int depth) {
  Json properties = Json::object(), required = Json::array();
  const int members = Below(random, 4);
  for (int i = 0; i < members; ++i) {
    const std::string name = absl::StrCat("key", i);
    properties[name] = RandomSchema(random, depth - 1);
    if (Below(random, 3) > 0) required.push_back(name);
  }
  return {{"type", "object"}, {"properties", properties}, {"required", required}, {"additionalProperties", false}};
}

}  // namespace

Json RandomSchema(std::mt19937_64& random, int depth) {
  const int low = Below(random, 200) - 100;
  switch (Below(random, depth > 0 ? 10 : 7)) {
    case 0: return {{"type", "integer"}, {"minimum", low}, {"maximum", low + Below(random, 500)}};
    case 1: return {{"type", "number"}, {"minimum", low}, {"maximum", low + 1 + Below(random, 9)}};
    case 2: return {{"type", "string"}, {"minLength", Below(random, 3)}, {"maxLength", 3 + Below(random, 8)}};
    case 3: return {{"type", "string"}, {"pattern", kPatterns[Below(random, std::size(kPatterns))]}};
    case 4: return {{"enum", {"red", 3, true, nullptr, "with \"quotes\" and ü"}}};
    case 5: return {{"type", "boolean"}};
    case 6: return {{"const", absl::StrCat("value ", low)}};
    case 7:
      return {{"type", "array"},
              {"items", RandomSchema(random, depth - 1)},
              {"minItems", Below(random, 2)},
              {"maxItems", 1 + Below(random, 3)}};
    case 8: return {{"anyOf", {RandomSchema(random, depth - 1), RandomSchema(random, depth - 1)}}};
    default: return RandomObject(random, depth);
  }
}

std::string Violation(const Json& schema, const Json& value) {
  const auto wrong = [&] { return absl::StrCat(value.dump(), " is not as ", schema.dump(), " says; "); };
  if (schema.contains("anyOf")) {
    std::string all;
    for (const Json& one : schema["anyOf"]) {
      const std::string violation = Violation(one, value);
      if (violation.empty()) return "";
      all += violation;
    }
    return all;
  }
  if (schema.contains("enum")) {
    for (const Json& one : schema["enum"]) {
      if (one == value) return "";
    }
    return wrong();
  }
  if (schema.contains("const")) return schema["const"] == value ? "" : wrong();
  const std::string type = schema["type"];
  if (type == "boolean") return value.is_boolean() ? "" : wrong();
  if (type == "integer" || type == "number") {
    const bool right = type == "integer" ? value.is_number_integer() : value.is_number();
    return right && value >= schema["minimum"] && value <= schema["maximum"] ? "" : wrong();
  }
  if (type == "string") {
    if (!value.is_string()) return wrong();
    const std::string text = value;
    if (schema.contains("pattern"))
      return std::regex_match(text, std::regex(schema["pattern"].get<std::string>())) ? "" : wrong();
    int64_t characters = 0;
    for (const char c : text) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return characters >= schema["minLength"] && characters <= schema["maxLength"] ? "" : wrong();
  }
  std::string all;
  if (type == "array") {
    if (!value.is_array() || value.size() < schema["minItems"] || value.size() > schema["maxItems"]) return wrong();
    for (const Json& item : value) all += Violation(schema["items"], item);
    return all;
  }
  if (!value.is_object()) return wrong();
  for (const Json& name : schema["required"]) {
    if (!value.contains(name.get<std::string>())) all += wrong();
  }
  for (const auto& [name, member] : value.items()) {
    all += schema["properties"].contains(name) ? Violation(schema["properties"][name], member) : wrong();
  }
  return all;
}

}  // namespace causeway
