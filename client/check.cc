#include "client/check.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace causeway {
namespace {

// Splits into host and port; an address without a colon has no port.
std::pair<absl::string_view, absl::string_view> Split(absl::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos) return {address, ""};
  return {address.substr(0, colon), address.substr(colon + 1)};
}

// Where the first character begins that is not UTF-8, or npos.
size_t FirstBadByte(absl::string_view text) {
  const auto byte = [&](size_t at) -> unsigned char { return at < text.size() ? text[at] : 0; };
  for (size_t at = 0; at < text.size();) {
    const unsigned char lead = byte(at);
    size_t more = 0;
    if (lead >= 0x80) {
      if (lead < 0xC2 || lead > 0xF4) return at;
      more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    }
    for (size_t i = 1; i <= more; ++i) {
      unsigned char low = 0x80, high = 0xBF;
      if (i == 1) {  // rules out overlong forms, surrogates, and what is above U+10FFFF
        if (lead == 0xE0) low = 0xA0;
        if (lead == 0xED) high = 0x9F;
        if (lead == 0xF0) low = 0x90;
        if (lead == 0xF4) high = 0x8F;
      }
      if (byte(at + i) < low || byte(at + i) > high) return at;
    }
    at += more + 1;
  }
  return absl::string_view::npos;
}

}  // namespace

absl::Status CheckAddress(const std::string& address) {
  const auto [host, port] = Split(address);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const bool named = !host.empty() && host.find_first_of(":/[] ") == absl::string_view::npos;
  int number = 0;
  const bool digits = std::all_of(port.begin(), port.end(), absl::ascii_isdigit);
  if ((bracketed || named) && digits && absl::SimpleAtoi(port, &number) && number >= 1 && number <= 65535)
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", address, "\": expected HOST:PORT with a port from 1 to 65535, as in 127.0.0.1:50051"));
}

bool IsLoopback(const std::string& address) {
  const absl::string_view host = Split(address).first;
  return host == "localhost" || host == "[::1]" || absl::StartsWith(host, "127.");
}

absl::Status CheckText(const v1::GenerateRequest& request) {
  absl::Status status;
  const auto check = [&](absl::string_view what, const std::string& text) {
    if (const size_t bad = FirstBadByte(text); bad != absl::string_view::npos && status.ok()) {
      status = absl::InvalidArgumentError(absl::StrCat(what, " is not valid UTF-8 (at byte ", bad, ")"));
    }
  };
  check("the prompt", request.prompt());
  for (const v1::ChatMessage& message : request.chat().messages()) {
    check("the role of a message", message.role());
    check(absl::StrCat("the ", message.role(), "'s message"), message.content());
  }
  for (const std::string& stop : request.stop().strings()) check("a stop string", stop);
  check("the JSON schema", request.grammar().json_schema());
  check("the regular expression", request.grammar().regex());
  check("the grammar", request.grammar().lark());
  for (const std::string& choice : request.grammar().choice().texts()) check("a choice", choice);
  check("the request id", request.request_id());
  check("the model's name", request.model());
  check("the cache salt", request.cache_salt());
  return status;
}

}  // namespace causeway
