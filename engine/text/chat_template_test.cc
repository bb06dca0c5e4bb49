#include "engine/text/chat_template.h"

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/text/golden.h"
#include "engine/text/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

std::vector<ChatMessage> Messages(const Json& list) {
  std::vector<ChatMessage> messages;
  for (const Json& message : list) messages.push_back({message["role"], message["content"]});
  return messages;
}

// The time that the golden file's strftime_now() saw, in any time zone.
absl::Time GoldenNow() { return absl::FromCivil(absl::CivilSecond(2024, 7, 26, 9, 5, 7), absl::LocalTimeZone()); }

absl::StatusOr<std::string> RenderSource(const std::string& source, const Json& messages, const char* config = "{}") {
  TempFolder folder;
  folder.Write("chat_template.jinja", source);
  folder.Write("tokenizer_config.json", config);
  auto chat = ChatTemplate::Load(folder.path());
  if (!chat.ok()) return chat.status();
  return (*chat)->Render(Messages(messages), true, GoldenNow());
}

TEST(ChatTemplateTest, FamiliesRenderAsTransformersDoes) {
  const Json golden = Golden("golden_chat.json");
  int raised = 0;
  for (const Json& wanted : golden["chats"]) {
    SCOPED_TRACE(absl::StrCat(wanted["folder"].get<std::string>(), " ", wanted["messages"].dump()));
    const auto chat = ChatTemplate::Load(TestData("chat/" + wanted["folder"].get<std::string>()));
    ASSERT_TRUE(chat.ok()) << chat.status();
    const auto text = (*chat)->Render(Messages(wanted["messages"]), wanted["prompt"], GoldenNow());
    if (wanted.contains("text")) {
      ASSERT_TRUE(text.ok()) << text.status();
      EXPECT_EQ(*text, wanted["text"].get<std::string>());
    } else {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_TRUE(wanted["raised"]);
      EXPECT_EQ(text.status().message(), wanted["error"].get<std::string>());
      ++raised;
    }
  }
  EXPECT_GE(golden["chats"].size(), 110u);
  EXPECT_GE(raised, 10);
}

TEST(ChatTemplateTest, SnippetsRenderAsTransformersDoes) {
  const Json golden = Golden("golden_chat.json");
  int different = 0;
  const std::string config = ReadFile(TestData("tokenizers/llama3_like/tokenizer_config.json"));
  for (const Json& wanted : golden["snippets"]) {
    const std::string source = wanted["template"];
    SCOPED_TRACE(source);
    const auto text = RenderSource(source, golden["snippet_messages"], config.c_str());
    if (wanted.contains("differs")) {
      ++different;
      EXPECT_NE(text.value_or("an error"), wanted.value("text", "an error")) << "no longer true: " << wanted["differs"];
    } else if (wanted.contains("text")) {
      EXPECT_EQ(text.ok() ? *text : text.status().ToString(), wanted["text"].get<std::string>());
    } else {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument)
          << "transformers: " << wanted["error"] << "\nwe: " << text.value_or("");
      if (wanted["raised"]) {
        EXPECT_EQ(text.status().message(), wanted["error"].get<std::string>());
      }
    }
  }
  std::printf("%zu snippets, %d of them known to differ\n", golden["snippets"].size(), different);
  EXPECT_GE(golden["snippets"].size(), 500u);
}

TEST(ChatTemplateTest, RenderedTextEncodesToTheSameTokens) {
  const std::string folder = TestData("tokenizers/llama3_like");
  const auto chat = ChatTemplate::Load(folder);
  ASSERT_TRUE(chat.ok()) << chat.status();
  const auto tokenizer = Tokenizer::Load(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const Json golden = Golden("golden_chat.json");
  ASSERT_GE(golden["tokens"].size(), 5u);
  for (const Json& wanted : golden["tokens"]) {
    const auto text = (*chat)->Render(Messages(wanted["messages"]), true, GoldenNow());
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(Json((*tokenizer)->Encode(*text, false).value()), wanted["ids"]);
  }
}

TEST(ChatTemplateTest, NoTemplateIsNotFound) {
  TempFolder folder;
  EXPECT_EQ(ChatTemplate::Load(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_EQ(ChatTemplate::Load(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "x"}]})");
  EXPECT_EQ(ChatTemplate::Load(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_EQ(ChatTemplate::Load(folder.path()).status().code(), absl::StatusCode::kInvalidArgument);
  folder.Write("tokenizer_config.json", R"({"chat_template": "from the configuration"})");
  folder.Write("chat_template.jinja", "from the file");
  EXPECT_EQ((*ChatTemplate::Load(folder.path()))->Render({{"user", "x"}}, true).value(), "from the file");
}

TEST(ChatTemplateTest, SyntaxErrorNamesTheLine) {
  TempFolder folder;
  folder.Write("chat_template.jinja", "line one\n{% if x %}\n{{ 'a' ++ }}\n{% endif %}");
  const absl::Status status = ChatTemplate::Load(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("line 3"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder.path()));
}

TEST(ChatTemplateTest, BadMessagesAreRefused) {
  const auto chat = ChatTemplate::Load(TestData("chat/chatml"));
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ((*chat)->Render({}, true).status().code(), absl::StatusCode::kInvalidArgument);
  const absl::Status status = (*chat)->Render({{"user", "good"}, {"user", "bad \xff"}}, true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("content of message 1"));
}

std::string Repeated(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

// Whatever a template does, the process lives and the caller gets a Status within a short time.
TEST(ChatTemplateTest, HostileTemplatesAreErrors) {
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  const std::vector<std::string> sources = {
      Repeated("{% if true %}", 20000),
      Repeated("{% for x in [1] %}", 1000) + Repeated("{% endfor %}", 1000),
      "{{ " + Repeated("(", 100000) + "1" + Repeated(")", 100000) + " }}",
      "{{ " + Repeated("[", 100000) + " }}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"
      "{{ ns.l | tojson }}",
      "{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l | tojson }}",
      "{{ 'x' * 10000000000 }}",
      "{{ range(10000000000) | list }}",
      "{{ 'x'.center(99999999999) }}",
      "{{ '%999999999999d' | format(1) }}",
      "{{ messages | tojson(indent='x' * 90000000) * 100 }}",
      std::string("{{ \xff }}"),
      Repeated("{{", 100000),
      "{{ " + Repeated("-", 17000) + "1 }}",
      std::string(300000, 'x'),
      Repeated("{%", 100000),
      "{{ '{:>10000000000}'.format(1) }}",
      "{{ '{:.10000000000f}'.format(1.5) }}",
      "{{ strftime_now('%%' * 100000) }}",
      "{{ {[1]: 2} | tojson }}",
      "{{ [1] | tojson(separators=([1], ':')) }}",
  };
  for (const std::string& source : sources) {
    const auto text = RenderSource(source, messages);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument)
        << source.substr(0, 80) << ": " << text.status();
  }
}

// Clears the process's peak of resident memory, and reads it.
void ResetPeakMemory() { std::ofstream("/proc/self/clear_refs") << 5; }

int64_t PeakMemoryMib() {
  const std::string status = ReadFile("/proc/self/status");
  return std::strtoll(status.c_str() + status.find("VmHWM:") + 6, nullptr, 10) >> 10;
}

// A result built of many references to one long text runs out of the budget before it fills the memory.
TEST(ChatTemplateTest, BudgetBoundsTheMemory) {
  const Json messages = {{{"role", "user"}, {"content", std::string(1 << 20, '"')}}};
  const std::string text = "{% set text = messages[0].content %}";
  const std::string doubled =
      "{% set ns = namespace(l=[text]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}";
  const std::vector<std::string> sources = {
      "{{ ([text] * 4000) | tojson }}",
      "{{ ([1] * 4000) | tojson(indent=text) }}",
      "{{ ([1] * 4000) | tojson(separators=(text, ':')) }}",
      "{{ ([1] * 50000000) | tojson }}",
      "{{ ([text] * 4000) | e }}",
      "{{ (text * 60) | e }}",
      "{{ [text] * 4000 }}",
      "{{ ([text] * 4000) | string }}",
      "{{ ([text] * 4000) | join }}",
      "{{ ([1] * 4000) | join(text) }}",
      "{{ ''.join([text] * 4000) }}",
      "{{ text.join(['1'] * 4000) }}",
      "{{ text.replace('\"', text) }}",
      "{{ (text * 60).split('\"') }}",
      "{{ ('\n' * 60000000).splitlines() }}",
      "{{ ('{0}' * 4000).format(text) }}",
      "{{ raise_exception([text] * 4000) }}",
      doubled + "{{ ns.l }}",
      doubled + "{{ ns.l | e }}",
      doubled + "{{ '{}'.format(ns.l) }}",
  };
  for (const std::string& source : sources) {
    ResetPeakMemory();
    const int64_t before_mib = PeakMemoryMib();
    const auto result = RenderSource(text + source, messages);
    EXPECT_THAT(std::string(result.status().message()), HasSubstr("out of fuel")) << source;
    EXPECT_LT(PeakMemoryMib() - before_mib, 500) << source;
  }
}

// All work is paid for, also that on one long text again and again: each of these went on for minutes or hours.
TEST(ChatTemplateTest, WorkIsBounded) {
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  const std::string many_names = [] {
    std::string result;
    for (int i = 0; i < 9000; ++i) result += absl::StrCat("{% set v", i, "=1 %}");
    return result;
  }();
  const auto again = [](const std::string& before, const std::string& body) {
    return before +
           "{% set s = 'x' * 50000000 %}{% set t = 'x' * 50000000 %}{% for i in range(100000) %}"
           "{% for j in range(100000) %}" +
           body + "{% endfor %}{% endfor %}";
  };
  const std::vector<std::string> sources = {
      "{% set ns = namespace(t=(1, 1)) %}{% for i in range(60) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}"
      "{{ {}[ns.t] }}",
      again("{% set u = (1,) * 100000 %}", "{{ {}[u] }}"),
      again("", "{{ {}[s] }}"),
      again("", "{{ s | length }}"),
      again("", "{{ s[5] }}"),
      again("", "{{ [s] == [t] }}"),
      again("", "{{ 'abc'.find(s) }}"),
      again("", "{% if s | trim %}{% endif %}"),
      again("", "{% if s is upper %}{% endif %}"),
      again("", "{{ [{}] | sort(attribute=s) | length }}"),
      again("{% set c = cycler(*range(100000)) %}", "{% if [c] %}{% endif %}"),
      again(many_names, "{% for k in [1] %}{% endfor %}"),
      again(many_names, "{{ nothing }}"),
  };
  for (const std::string& source : sources) {
    const absl::Time start = absl::Now();
    EXPECT_THAT(std::string(RenderSource(source, messages).status().message()), HasSubstr("out of fuel")) << source;
    EXPECT_LT(absl::Now() - start, absl::Seconds(30)) << source;
  }
}

// A loop that remembers itself keeps nothing when the render has ended.
TEST(ChatTemplateTest, NothingIsKept) {
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  const auto render = [&] {
    ResetPeakMemory();
    const int64_t before_mib = PeakMemoryMib();
    EXPECT_TRUE(RenderSource("{% for s in ['x' * 20000000] %}{{ loop.changed(loop) }}{% endfor %}", messages).ok());
    return before_mib;
  };
  const int64_t first_mib = render();
  for (int i = 0; i < 10; ++i) render();
  EXPECT_LT(render() - first_mib, 100);
}

// Error messages go into trailers, which have little room.
TEST(ChatTemplateTest, LongErrorsAreCut) {
  const Json messages = {{{"role", "user"}, {"content", Repeated("\u00e9", 100000)}}};
  const absl::Status status = RenderSource("{{ raise_exception(messages[0].content) }}", messages).status();
  EXPECT_EQ(status.message(), Repeated("\u00e9", 1000) + "...");
}

// Things are nested as deep as the limits allow. The engine parses, drops, prints and compares them by recursion.
// Whether that is an error is up to the engine.
TEST(ChatTemplateTest, DeepNestingDoesNotOverflowTheStack) {
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  const int size = 16 * 1024 - 100;    // about the limit of a tag
  const int whole = 256 * 1024 - 100;  // about the limit of a template
  const auto nested = [](const std::string& statements, int loops) {
    return "{% set ns = namespace(l=[], m=[], d={}) %}" +
           Repeated("{% for i in range(99999) %}" + statements + "{% endfor %}", loops);
  };
  const std::string lists = nested("{% set ns.l = [ns.l] %}", 4);
  const std::vector<std::string> sources = {
      "{{ " + Repeated("-", size) + "1 }}",
      "{{ " + Repeated("not ", size / 4) + "1 }}",
      "{{ 1" + Repeated("+1", size / 2) + " }}",
      "{{ x" + Repeated("~x", size / 2) + " }}",
      "{{ x" + Repeated("|e", size / 2) + " }}",
      "{{ x" + Repeated(".x", size / 2) + " }}",
      "{{ x" + Repeated("()", size / 2) + " }}",
      "{{ x" + Repeated("[x", size / 3) + Repeated("]", size / 3) + " }}",
      "{{ x" + Repeated("**x", size / 3) + " }}",
      "{{ 1" + Repeated(" if x else 1", size / 12) + " }}",
      "{{ x" + Repeated(" and x", size / 6) + " }}",
      "{{ x" + Repeated("<x", size / 2) + " }}",
      "{% if x %}" + Repeated("{% elif x %}", whole / 24) + "{% endif %}",
      nested("{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}", 20),
      lists + "{{ ns.l }}",
      lists + "{{ ns.l | tojson }}",
      lists + "{{ ns.l ~ '' }}",
      lists + "{{ ns.l == [ns.l] }}",
      lists + "{{ {ns.l: 1} }}",
      lists + "{{ [ns.l, ns.l] | unique | list | length }}",
      lists + "{{ [ns.l, ns.l] | sort | length }}",
      nested("{% set ns.d = {'d': ns.d} %}", 4) + "{{ ns.d }}",
  };
  for (const std::string& source : sources) {
    const auto text = RenderSource(source, messages);
    EXPECT_TRUE(text.ok() || text.status().code() == absl::StatusCode::kInvalidArgument)
        << source.substr(0, 80) << ": " << text.status();
  }
}

// Long chats stay within the budget of a render.
TEST(ChatTemplateTest, LongChatsRender) {
  std::vector<ChatMessage> messages;
  for (int i = 0; i < 2000; ++i) {
    messages.push_back({i % 2 == 0 ? "user" : "assistant", std::string(500, 'x').append(" </think> y")});
  }
  messages.push_back({"user", std::string(1 << 20, 'z')});
  for (const char* name : {"llama2", "llama3", "chatml", "mistral", "zephyr", "gemma", "reasoner", "qwen"}) {
    const auto chat = ChatTemplate::Load(TestData(std::string("chat/") + name));
    ASSERT_TRUE(chat.ok()) << chat.status();
    const auto text = (*chat)->Render(messages, true);
    ASSERT_TRUE(text.ok()) << name << ": " << text.status();
    EXPECT_GT(text->size(), 1u << 20);
  }
}

}  // namespace
}  // namespace causeway
