#include "tests/support/schema_check.h"

#include <algorithm>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace causeway {
namespace {

using Kind = ExactJson::Kind;

class Checker {
 public:
  explicit Checker(const ExactJson& root) : root_(root) {}

  std::string Violation(const ExactJson& schema, const ExactJson& value) const {
    if (schema.kind == Kind::kTrue) return "";
    if (schema.kind == Kind::kFalse) return "false";
    for (const auto& [keyword, wanted] : schema.members) {
      const std::string inside = Follow(schema, keyword, wanted, value);
      if (!inside.empty()) return absl::StrCat(keyword, inside == "no" ? "" : absl::StrCat(" > ", inside));
    }
    return "";
  }

 private:
  static std::string If(bool right) { return right ? "" : "no"; }
  bool Holds(const ExactJson& schema, const ExactJson& value) const { return Violation(schema, value).empty(); }

  std::string Follow(const ExactJson& schema, const std::string& keyword, const ExactJson& wanted,
                     const ExactJson& value) const {
    if (keyword == "$ref") return Violation(*Target(wanted.text), value);
    if (keyword == "type") return If(IsOf(wanted, value));
    if (keyword == "const") return If(Equal(wanted, value));
    const auto holding = [&] {
      return std::count_if(wanted.items.begin(), wanted.items.end(),
                           [&](const ExactJson& s) { return Holds(s, value); });
    };
    if (keyword == "anyOf") return If(holding() > 0);
    if (keyword == "oneOf") return If(holding() == 1);
    if (keyword == "enum")
      return If(
          std::any_of(wanted.items.begin(), wanted.items.end(), [&](const ExactJson& v) { return Equal(v, value); }));
    if (keyword == "allOf") {
      for (const ExactJson& one : wanted.items) {
        if (const std::string violation = Violation(one, value); !violation.empty()) return violation;
      }
    }
    switch (value.kind) {
      case Kind::kNumber: return If(Number(schema, keyword, wanted, value.number));
      case Kind::kString: return If(String(keyword, wanted, value.text));
      case Kind::kArray: return Array(schema, keyword, wanted, value);
      case Kind::kObject: return Object(schema, keyword, wanted, value);
      default: return "";
    }
  }

  static bool IsOf(const ExactJson& type, const ExactJson& value) {
    if (type.kind == Kind::kArray)
      return std::any_of(type.items.begin(), type.items.end(), [&](const ExactJson& one) { return IsOf(one, value); });
    switch (value.kind) {
      case Kind::kNull: return type.text == "null";
      case Kind::kFalse:
      case Kind::kTrue: return type.text == "boolean";
      case Kind::kNumber: return type.text == "number" || (type.text == "integer" && value.number.IsWhole());
      case Kind::kString: return type.text == "string";
      case Kind::kArray: return type.text == "array";
      case Kind::kObject: return type.text == "object";
    }
    return false;
  }

  static bool Number(const ExactJson& schema, const std::string& keyword, const ExactJson& wanted,
                     const ExactNumber& number) {
    // Draft 4 has true or false beside the bound.
    const auto excludes = [&](const char* keyword) {
      const ExactJson* exclusive = schema.Find(keyword);
      return exclusive != nullptr && exclusive->kind == Kind::kTrue;
    };
    if (keyword == "minimum") return excludes("exclusiveMinimum") ? number > wanted.number : number >= wanted.number;
    if (keyword == "maximum") return excludes("exclusiveMaximum") ? number < wanted.number : number <= wanted.number;
    if (wanted.kind != Kind::kNumber) return true;
    if (keyword == "exclusiveMinimum") return number > wanted.number;
    if (keyword == "exclusiveMaximum") return number < wanted.number;
    return keyword != "multipleOf" || number.IsMultipleOf(wanted.number);
  }

  static ExactNumber Count(size_t count) { return ReadNumber(absl::StrCat(count)); }

  static bool String(const std::string& keyword, const ExactJson& wanted, const std::string& text) {
    const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
    const ExactNumber length = Count(static_cast<size_t>(std::count_if(text.begin(), text.end(), begins)));
    if (keyword == "minLength") return length >= wanted.number;
    if (keyword == "maxLength") return length <= wanted.number;
    return keyword != "pattern" || std::regex_search(text, std::regex(wanted.text));
  }

  std::string Array(const ExactJson& schema, const std::string& keyword, const ExactJson& wanted,
                    const ExactJson& value) const {
    if (keyword == "minItems") return If(Count(value.items.size()) >= wanted.number);
    if (keyword == "maxItems") return If(Count(value.items.size()) <= wanted.number);
    const ExactJson* items = schema.Find("items");
    const bool old = items != nullptr && items->kind == Kind::kArray;
    const ExactJson* first = old ? items : schema.Find("prefixItems");
    const size_t listed = first == nullptr ? 0 : first->items.size();
    const bool of_first = keyword == (old ? "items" : "prefixItems");
    if (!of_first && keyword != (old ? "additionalItems" : "items")) return "";
    for (size_t i = of_first ? 0 : listed; i < value.items.size() && (!of_first || i < listed); ++i) {
      const std::string violation = Violation(of_first ? wanted.items[i] : wanted, value.items[i]);
      if (!violation.empty()) return absl::StrCat(i, ": ", violation);
    }
    return "";
  }

  std::string Object(const ExactJson& schema, const std::string& keyword, const ExactJson& wanted,
                     const ExactJson& value) const {
    std::set<std::string> names;
    for (const auto& [name, unused] : value.members) names.insert(name);
    if (keyword == "minProperties") return If(Count(names.size()) >= wanted.number);
    if (keyword == "maxProperties") return If(Count(names.size()) <= wanted.number);
    if (keyword == "required") {
      return If(std::all_of(wanted.items.begin(), wanted.items.end(),
                            [&](const ExactJson& name) { return names.contains(name.text); }));
    }
    for (const auto& [name, member] : value.members) {
      for (const ExactJson* one : Applying(schema, keyword, wanted, name)) {
        if (const std::string violation = Violation(*one, member); !violation.empty())
          return absl::StrCat("\"", name, "\": ", violation);
      }
    }
    return "";
  }

  // The schemas that a keyword of an object's schema has for a property of this name.
  static std::vector<const ExactJson*> Applying(const ExactJson& schema, const std::string& keyword,
                                                const ExactJson& wanted, const std::string& name) {
    std::vector<const ExactJson*> all;
    if (keyword == "properties") {
      if (const ExactJson* one = wanted.Find(name)) all.push_back(one);
    } else if (keyword == "patternProperties") {
      for (const auto& [pattern, one] : wanted.members) {
        if (std::regex_search(name, std::regex(pattern))) all.push_back(&one);
      }
    } else if (keyword == "additionalProperties") {
      for (const char* other : {"properties", "patternProperties"}) {
        const ExactJson* listed = schema.Find(other);
        if (listed != nullptr && !Applying(schema, other, *listed, name).empty()) return {};
      }
      all.push_back(&wanted);
    }
    return all;
  }

  const ExactJson* Target(absl::string_view reference) const {
    std::string place;
    for (size_t i = 1; i < reference.size(); ++i) {
      uint32_t code;
      if (reference[i] == '%' && absl::SimpleHexAtoi(reference.substr(i + 1, 2), &code)) {
        place.push_back(static_cast<char>(code));
        i += 2;
      } else {
        place.push_back(reference[i]);
      }
    }
    if (place.empty()) return &root_;
    if (place[0] != '/') return Anchored(root_, place);
    const ExactJson* at = &root_;
    for (const absl::string_view part : absl::StrSplit(absl::string_view(place).substr(1), '/')) {
      const std::string name = absl::StrReplaceAll(absl::StrReplaceAll(part, {{"~1", "/"}}), {{"~0", "~"}});
      at = at->kind == Kind::kArray ? &at->items.at(std::stoul(name)) : at->Find(name);
    }
    return at;
  }

  static const ExactJson* Anchored(const ExactJson& in, const std::string& name) {
    const ExactJson* anchor = in.Find("$anchor");
    if (anchor != nullptr && anchor->text == name) return &in;
    for (const ExactJson& item : in.items) {
      if (const ExactJson* found = Anchored(item, name)) return found;
    }
    for (const auto& [unused, member] : in.members) {
      if (const ExactJson* found = Anchored(member, name)) return found;
    }
    return nullptr;
  }

  const ExactJson& root_;
};

}  // namespace

std::string SchemaViolation(const ExactJson& schema, const ExactJson& value) {
  return Checker(schema).Violation(schema, value);
}

}  // namespace causeway
