#include "tests/support/random_schema.h"

#include <iterator>
#include <string>

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

}  // namespace causeway
