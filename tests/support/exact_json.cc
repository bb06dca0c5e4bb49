#include "tests/support/exact_json.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace causeway {
namespace {

class Parser {
 public:
  explicit Parser(absl::string_view text) : text_(text) {}

  absl::StatusOr<ExactJson> Parse() {
    ExactJson value;
    if (Value(&value) && (Space(), at_ == text_.size())) return value;
    return absl::InvalidArgumentError(absl::StrCat("no JSON at byte ", at_, " of ", text_));
  }

 private:
  char Next() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void Space() {
    while (at_ < text_.size() && absl::string_view(" \t\r\n").find(text_[at_]) != absl::string_view::npos) ++at_;
  }
  bool Take(absl::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  bool Digits() {
    const size_t begin = at_;
    while (Next() >= '0' && Next() <= '9') ++at_;
    return at_ > begin;
  }

  bool Value(ExactJson* value) {
    Space();
    const size_t begin = at_;
    switch (Next()) {
      case 'n': return Take("null");
      case 'f': value->kind = ExactJson::Kind::kFalse; return Take("false");
      case 't': value->kind = ExactJson::Kind::kTrue; return Take("true");
      case '"': value->kind = ExactJson::Kind::kString; return String(&value->text);
      case '[': value->kind = ExactJson::Kind::kArray; return Items(value);
      case '{': value->kind = ExactJson::Kind::kObject; return Members(value);
      default: break;
    }
    value->kind = ExactJson::Kind::kNumber;
    Take("-");
    if (!Take("0") && !Digits()) return false;
    if (Take(".") && !Digits()) return false;
    if (Take("e") || Take("E")) {
      if (!Take("+")) Take("-");
      if (!Digits()) return false;
    }
    value->number = ReadNumber(text_.substr(begin, at_ - begin));
    return true;
  }

  bool Items(ExactJson* array) {
    ++at_;
    Space();
    if (Take("]")) return true;
    do {
      if (!Value(&array->items.emplace_back())) return false;
      Space();
    } while (Take(","));
    return Take("]");
  }

  bool Members(ExactJson* object) {
    ++at_;
    Space();
    if (Take("}")) return true;
    do {
      Space();
      auto& [name, value] = object->members.emplace_back();
      if (Next() != '"' || !String(&name)) return false;
      Space();
      if (!Take(":") || !Value(&value)) return false;
      Space();
    } while (Take(","));
    return Take("}");
  }

  bool Hex(uint32_t* code) {
    *code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const size_t digit = absl::string_view("0123456789abcdef").find(static_cast<char>(Next() | 0x20));
      if (digit == absl::string_view::npos) return false;
      *code = *code * 16 + static_cast<uint32_t>(digit);
    }
    return true;
  }

  bool Escape(std::string* out) {
    constexpr absl::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char name = Next();
    ++at_;
    if (const size_t known = kNames.find(name); known != absl::string_view::npos) {
      out->push_back(kMeanings[known]);
      return true;
    }
    uint32_t code, low;
    if (name != 'u' || !Hex(&code) || (code & 0xFC00) == 0xDC00) return false;
    if ((code & 0xFC00) == 0xD800) {
      if (!Take("\\u") || !Hex(&low) || (low & 0xFC00) != 0xDC00) return false;
      code = 0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF);
    }
    const auto push = [&](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
    if (code < 0x80) {
      push(code);
    } else if (code < 0x800) {
      push(0xC0 | code >> 6), push(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      push(0xE0 | code >> 12), push(0x80 | (code >> 6 & 0x3F)), push(0x80 | (code & 0x3F));
    } else {
      push(0xF0 | code >> 18), push(0x80 | (code >> 12 & 0x3F)), push(0x80 | (code >> 6 & 0x3F));
      push(0x80 | (code & 0x3F));
    }
    return true;
  }

  bool String(std::string* out) {
    ++at_;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '"') return true;
      if (static_cast<unsigned char>(c) < 0x20) return false;
      if (c != '\\') {
        out->push_back(c);
      } else if (!Escape(out)) {
        return false;
      }
    }
    return false;
  }

  absl::string_view text_;
  size_t at_ = 0;
};

}  // namespace

ExactNumber ReadNumber(absl::string_view text) {
  ExactNumber number;
  number.negative = absl::ConsumePrefix(&text, "-");
  const size_t e = text.find_first_of("eE");
  int64_t exponent = e == text.npos ? 0 : std::stoll(std::string(text.substr(e + 1)));
  text = text.substr(0, e);
  const size_t point = std::min(text.find('.'), text.size());
  number.exponent = exponent + static_cast<int64_t>(point);
  for (const char c : text) {
    if (c != '.') number.digits.push_back(c);
  }
  const size_t zeros = std::min(number.digits.find_first_not_of('0'), number.digits.size());
  number.digits.erase(0, zeros);
  number.exponent -= static_cast<int64_t>(zeros);
  number.digits.erase(number.digits.find_last_not_of('0') + 1);
  return number.digits.empty() ? ExactNumber() : number;
}

std::strong_ordering ExactNumber::operator<=>(const ExactNumber& other) const {
  const auto sign = [](const ExactNumber& n) { return n.digits.empty() ? 0 : n.negative ? -1 : 1; };
  if (sign(*this) != sign(other)) return sign(*this) <=> sign(other);
  const ExactNumber& a = negative ? other : *this;
  const ExactNumber& b = negative ? *this : other;
  if (a.exponent != b.exponent) return a.exponent <=> b.exponent;
  return a.digits.compare(b.digits) <=> 0;
}

bool ExactNumber::IsMultipleOf(const ExactNumber& step) const {
  // Both times a power of ten that makes them whole.
  const int64_t last = std::min(exponent - static_cast<int64_t>(digits.size()),
                                step.exponent - static_cast<int64_t>(step.digits.size()));
  const auto whole = [&](const ExactNumber& n) {
    return n.digits + std::string(static_cast<size_t>(n.exponent - static_cast<int64_t>(n.digits.size()) - last), '0');
  };
  if (digits.empty()) return true;
  // A value with digits far behind those of the step is none.
  if (step.exponent - last > 18) return false;
  const uint64_t divisor = std::stoull(whole(step));
  uint64_t rest = 0;
  for (const char c : whole(*this)) rest = (rest * 10 + static_cast<uint64_t>(c - '0')) % divisor;
  return rest == 0;
}

const ExactJson* ExactJson::Find(absl::string_view name) const {
  const auto found = std::find_if(members.rbegin(), members.rend(), [&](const auto& m) { return m.first == name; });
  return found == members.rend() ? nullptr : &found->second;
}

bool Equal(const ExactJson& a, const ExactJson& b) {
  if (a.kind != b.kind || a.items.size() != b.items.size() || a.members.size() != b.members.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!Equal(a.items[i], b.items[i])) return false;
  }
  for (const auto& [name, value] : a.members) {
    const ExactJson* other = b.Find(name);
    if (other == nullptr || !Equal(value, *other)) return false;
  }
  return a.number == b.number && a.text == b.text;
}

absl::StatusOr<ExactJson> ParseExactJson(absl::string_view text) { return Parser(text).Parse(); }

}  // namespace causeway
