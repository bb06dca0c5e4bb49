#include "engine/text/grammar.h"

#include <utility>

#include "engine/base/status.h"
#include "engine/text/bridge.h"

namespace causeway {

using text_internal::Bytes;
using text_internal::StatusOf;
using text_internal::Try;

struct GrammarMatcher::Impl {
  rust::Box<text_bridge::Matcher> matcher;
};

struct GrammarCompiler::Impl {
  rust::Box<text_bridge::GrammarCompiler> compiler;
};

GrammarMatcher::GrammarMatcher(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrammarMatcher::~GrammarMatcher() = default;

absl::StatusOr<std::unique_ptr<GrammarMatcher>> GrammarMatcher::Clone() const {
  CAUSEWAY_ASSIGN_OR_RETURN(auto matcher, Try([&] { return text_bridge::clone_matcher(*impl_->matcher); }));
  return std::unique_ptr<GrammarMatcher>(new GrammarMatcher(std::unique_ptr<Impl>(new Impl{std::move(matcher)})));
}

absl::Status GrammarMatcher::Accept(int32_t token) {
  try {
    text_bridge::consume(*impl_->matcher, token);
  } catch (const std::exception& error) {
    return StatusOf(error);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> GrammarMatcher::Mask(absl::Span<uint32_t> words) {
  return Try(
      [&] { return text_bridge::fill_mask(*impl_->matcher, rust::Slice<uint32_t>(words.data(), words.size())); });
}

GrammarCompiler::GrammarCompiler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrammarCompiler::~GrammarCompiler() = default;

absl::StatusOr<std::unique_ptr<GrammarCompiler>> GrammarCompiler::Create(const Tokenizer& tokenizer) {
  CAUSEWAY_ASSIGN_OR_RETURN(auto compiler,
                            Try([&] { return text_bridge::new_grammar_compiler(*tokenizer.impl_->tokenizer); }));
  return std::unique_ptr<GrammarCompiler>(new GrammarCompiler(std::unique_ptr<Impl>(new Impl{std::move(compiler)})));
}

absl::StatusOr<std::unique_ptr<GrammarMatcher>> GrammarCompiler::Compile(const GrammarSource& source) const {
  std::vector<rust::Slice<const uint8_t>> texts;
  for (const std::string& text : source.texts) texts.push_back(Bytes(text));
  if (texts.empty()) texts.push_back(Bytes(""));
  CAUSEWAY_ASSIGN_OR_RETURN(auto matcher, Try([&] {
                              const rust::Slice<const rust::Slice<const uint8_t>> slice{texts.data(), texts.size()};
                              return text_bridge::compile_grammar(*impl_->compiler, static_cast<uint8_t>(source.kind),
                                                                  slice, source.compact_json);
                            }));
  return std::unique_ptr<GrammarMatcher>(
      new GrammarMatcher(std::unique_ptr<GrammarMatcher::Impl>(new GrammarMatcher::Impl{std::move(matcher)})));
}

}  // namespace causeway
