// Runs the program `causeway`, command by command, against a real daemon on the bundled model.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/client.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

class ClientProgram : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    daemon_ = new DaemonProcess({"--model", CAUSEWAY_SOURCE_DIR "/models/kjv"});
    ASSERT_TRUE(daemon_->WaitUntilServing());
  }
  static void TearDownTestSuite() {
    daemon_->Signal(SIGTERM);
    EXPECT_EQ(daemon_->Wait(), 0);
    delete daemon_;
  }
  static ProgramResult Run(const Arguments& arguments, const std::string& input = "") {
    return RunProgram("causeway", arguments, {{"CAUSEWAY_SERVER", daemon_->grpc()}}, input);
  }
  static std::string Greedy(Arguments more, const std::string& input = "") {
    Arguments all = {"generate", "--temperature", "0", "--max-tokens", "12", "--ignore-eos"};
    all.insert(all.end(), more.begin(), more.end());
    const ProgramResult result = Run(all, input);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  }
  // Expects that a mistake on the command line gives exit status 64, nothing on standard output, and a short message.
  static void Refuses(const Arguments& arguments, const std::string& message, const std::string& input = "") {
    const ProgramResult result = Run(arguments, input);
    EXPECT_EQ(result.status, 64) << absl::StrJoin(arguments, " ");
    EXPECT_THAT(result.err, HasSubstr(message)) << absl::StrJoin(arguments, " ");
    EXPECT_LT(result.err.size(), 300u);
    EXPECT_EQ(result.out, "");
  }
  static std::string Path(const std::string& name) { return ::testing::TempDir() + "client_program_" + name; }
  static std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(Path(name), std::ios::binary) << text;
    return Path(name);
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  static std::vector<Json> Lines(const std::string& text) {
    std::vector<Json> lines;
    for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty()))
      lines.push_back(Json::parse(std::string(line)));
    return lines;
  }

  static DaemonProcess* daemon_;
};
DaemonProcess* ClientProgram::daemon_ = nullptr;

TEST_F(ClientProgram, FollowsGrammars) {
  const std::string prompt = "And the answer was: ";
  EXPECT_THAT(Greedy({"--choice", "Yea", "--choice", "Nay", prompt}), ::testing::AnyOf("Yea\n", "Nay\n"));
  EXPECT_EQ(Greedy({"--regex", "ab{3}c", prompt}), "abbbc\n");
  const std::string schema = Write("schema.json", R"({"type": "integer", "minimum": 7, "maximum": 7})");
  EXPECT_EQ(Greedy({"--json-schema", schema, prompt}), "7\n");
  EXPECT_EQ(Greedy({"--grammar", Write("grammar.lark", "start: \"x\" \"y\""), prompt}), "xy\n");
  EXPECT_THAT(Greedy({"--json-object", prompt}), ::testing::StartsWith("{"));
  EXPECT_THAT(Greedy({"--json-object", "--compact-json", prompt}), ::testing::ContainsRegex("^[{][\"}]"));
  Refuses({"generate", "--regex", "a", "--compact-json", prompt}, "grammar.compact_json is true");
  Refuses({"generate", "--regex", "a", "--json-object", prompt}, "excludes");
  Refuses({"generate", "--json-schema", Path("none.json"), prompt},
          "none.json\" cannot be read: No such file or directory");
  Refuses({"generate", "--json-schema", "/tmp", prompt}, "--json-schema: \"/tmp\" cannot be read: Is a directory");
  Refuses({"generate", "--json-schema", "", prompt}, "--json-schema: \"\" cannot be read: No such file or directory");
  Refuses({"generate", "--regex", "\xff", prompt}, "the regular expression is not valid UTF-8 (at byte 0)");
  EXPECT_EQ(Greedy({"--regex", "", prompt}), "\n");  // the empty text, and nothing else
  const ProgramResult wrong = Run({"generate", "--regex", "a(", prompt});
  EXPECT_NE(wrong.status, 0);
  EXPECT_THAT(wrong.err, HasSubstr("grammar.regex: "));
}

TEST_F(ClientProgram, ShowsThePromptsLogprobs) {
  const Json answer =
      Json::parse(Greedy({"--format", "json", "--prompt-logprobs", "--typical-p", "0.9", "In the beginning"}));
  EXPECT_EQ(answer["choices"][0]["prompt_logprobs"].size() + 1,
            std::stoul(answer["usage"]["prompt_tokens"].get<std::string>()));
  Refuses({"generate", "--prompt-logprobs", "x"}, "needs --format json");
}

TEST_F(ClientProgram, GeneratesFromAnArgumentFromInputAndFromTokens) {
  const std::string text = Greedy({"In the beginning"});
  EXPECT_GT(text.size(), 12u);
  EXPECT_EQ(text.back(), '\n');
  for (const std::string input :
       {"In the beginning", "In the beginning\n", "In the beginning\r\n", "\xef\xbb\xbfIn the beginning\n"}) {
    EXPECT_EQ(Greedy({}, input), text);
    EXPECT_EQ(Greedy({"-"}, input), text);
  }
  EXPECT_THAT(Greedy({"--echo"}, "In the beginning\n\n"), StartsWith("In the beginning\n"))
      << "one newline, and no more";
  EXPECT_EQ(Greedy({"--echo", "In the beginning"}), "In the beginning" + text);

  Client client(daemon_->grpc());
  v1::TokenizeRequest request;
  request.set_text("In the beginning");
  const auto tokens = client.Tokenize(request);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(Greedy({"--tokens", absl::StrJoin(tokens->ids(), ",")}), text);

  const std::string both = Greedy({"--n", "2", "In the beginning"});
  EXPECT_EQ(both, "[0] " + text + "[1] " + text);
  // Each use of --stop takes one word, so that the prompt is still there.
  EXPECT_EQ(Greedy({"--stop", "never said", "--stop", "@@", "In the beginning"}), text);
}

TEST_F(ClientProgram, JsonHasZerosToo) {
  const Json answer = Json::parse(Greedy({"--format", "json", "--logprobs", "2", "In the beginning"}));
  const Json& choice = answer.at("choices").at(0);
  EXPECT_EQ(choice.at("index"), 0);
  EXPECT_EQ(choice.at("finish_reason"), "LENGTH");
  EXPECT_EQ(choice.at("stop_match"), "");
  EXPECT_EQ(choice.at("text").get<std::string>() + "\n", Greedy({"In the beginning"}));
  ASSERT_EQ(choice.at("logprobs").size(), 12u);
  for (const Json& token : choice.at("logprobs")) {
    EXPECT_TRUE(token.contains("token_id") && token.contains("logprob"));
    EXPECT_EQ(token.at("top").size(), 2u);
  }
  EXPECT_EQ(answer.at("usage").at("generated_tokens"), "12");  // protobuf's JSON writes 64-bit numbers as text
  EXPECT_TRUE(answer.at("usage").contains("cached_tokens"));
}

TEST_F(ClientProgram, AnErrorBeginsOnItsOwnLine) {
  const ProgramResult late =
      Run({"generate", "--timeout", "0.5", "--ignore-eos", "--max-tokens", "2000", "In the beginning"});
  EXPECT_EQ(late.status, 1);
  EXPECT_TRUE(late.out.empty() || late.out.back() == '\n');
  EXPECT_THAT(late.err, StartsWith("causeway: "));

  const ProgramResult broken = Run({"generate"}, "In the \xff");
  EXPECT_EQ(broken.status, 64);
  EXPECT_EQ(broken.err, "causeway: the prompt is not valid UTF-8 (at byte 7)\n");
}

TEST_F(ClientProgram, AFileOfPromptsGoesOnWhereItEnded) {
  const std::string input = Write(
      "prompts.jsonl",
      "{\"prompt\": \"In the beginning\", \"max_length\": 12}\n\n{\"prompt\": \"And the king\", \"max_tokens\": 5}\n"
      "{\"prompt\": \"And it came to pass\", \"max_length\": 1}\n");
  const std::string output = Path("results.jsonl");
  std::filesystem::remove(output);
  const Arguments command = {"generate",      "--input", input,          "--output",      output,
                             "--temperature", "0",       "--ignore-eos", "--concurrency", "1"};
  const ProgramResult first = Run(command);
  EXPECT_EQ(first.status, 1);  // the last one leaves no room
  EXPECT_THAT(first.err, HasSubstr("1 of 3 prompts failed"));
  const std::string whole = Read(output);
  const std::vector<Json> results = Lines(whole);
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0]["line"], 1);
  EXPECT_EQ(results[0]["prompt_tokens"].get<int>() + results[0]["generated_tokens"].get<int>(), 12);
  EXPECT_EQ(results[1]["line"], 3);
  EXPECT_EQ(results[1]["generated_tokens"], 5);
  EXPECT_THAT(results[2]["error"].get<std::string>(), HasSubstr("max_length is 1"));

  // The file is cut off within the second line. The first prompt is not asked again, and the others are, once each.
  const size_t line = whole.find('\n') + 1;
  Write("results.jsonl", whole.substr(0, line + 20));
  const ProgramResult second = Run(command);
  EXPECT_THAT(second.err, HasSubstr("answers 1 of 3 prompts; going on"));
  EXPECT_EQ(Read(output), whole);
  EXPECT_EQ(Run(command).status, 1);
  EXPECT_EQ(Read(output), whole);
}

TEST_F(ClientProgram, PromptsMayComeFromStandardInputAndHaveIds) {
  const std::string prompts =
      "\xef\xbb\xbf{\"id\": \"first\", \"prompt\": \"In the beginning\", \"max_tokens\": 3}\n"
      "{\"id\": 9007199254740993, \"prompt\": \"And the king\", \"max_length\": 1}\n{\"prompt\": \"And\", "
      "\"max_tokens\": 3}\n";
  Arguments command = {"generate", "--input", "-", "--output", "-", "--concurrency", "1"};
  const ProgramResult piped = Run(command, prompts);
  EXPECT_EQ(piped.status, 1);
  EXPECT_THAT(piped.err, HasSubstr("1 of 3 prompts failed; see \"error\" in standard output."));
  const std::vector<Json> results = Lines(piped.out);
  ASSERT_EQ(results.size(), 3u) << piped.out;
  EXPECT_EQ(results[0].at("id"), "first");
  EXPECT_EQ(results[1].at("id").dump(), "9007199254740993");
  EXPECT_TRUE(results[1].contains("error"));
  EXPECT_FALSE(results[2].contains("id"));

  command[4] = Path("piped.jsonl");
  std::filesystem::remove(command[4]);
  EXPECT_EQ(Run(command, prompts).status, 1);
  EXPECT_THAT(Run(command, prompts).err, HasSubstr("answers 2 of 3 prompts; going on"));
  Refuses(command, "standard input holds no prompts", "\n");
  EXPECT_FALSE(std::filesystem::exists("-"));
}

TEST_F(ClientProgram, SaysItsVersion) {
  const ProgramResult version = Run({"--version"});
  EXPECT_EQ(version.status, 0) << version.err;
  EXPECT_THAT(version.out, ::testing::MatchesRegex("causeway [0-9]+[.][0-9]+[.][0-9]+\n"));
  EXPECT_EQ("causewayd" + version.out.substr(8, version.out.size() - 9),
            RunProgram("causewayd", {"--version"}, {}, "").out.substr(0, version.out.size()));
}

TEST_F(ClientProgram, AFileOfPromptsLeavesOtherFilesAlone) {
  const std::string prompts = "{\"prompt\": \"In the beginning\", \"max_tokens\": 3}\n";
  const std::string input = Write("one.jsonl", prompts);
  for (const std::string foreign : {"hello", "{\"mine\": 1}"}) {
    const std::string output = Write("notes.txt", foreign);
    Refuses({"generate", "--input", input, "--output", output}, "is no file of results");
    EXPECT_EQ(Read(output), foreign);
  }
  Refuses({"generate", "--input", input, "--output", input}, "is the file of --input");
  EXPECT_EQ(Read(input), prompts);

  // Without a terminal, the progress writes its end once. A pipe is written, and not read first.
  const ProgramResult piped = RunProgram("/bin/sh",
                                         {"-c", "\"$@\" | cat", "sh", CAUSEWAY_BINARY_DIR "/bin/causeway", "generate",
                                          "--input", input, "--output", "/dev/stdout"},
                                         {{"CAUSEWAY_SERVER", daemon_->grpc()}});
  ASSERT_EQ(Lines(piped.out).size(), 1u) << piped.out << piped.err;
  EXPECT_EQ(Lines(piped.out)[0]["generated_tokens"], 3);
  EXPECT_THAT(piped.err, HasSubstr("1/1 prompts"));
  EXPECT_EQ(piped.err.find("1/1 prompts"), piped.err.rfind("1/1 prompts")) << piped.err;
}

TEST_F(ClientProgram, ChatsOverAPipe) {
  const Arguments chat = {"chat", "--temperature", "0", "--max-tokens", "8", "--ignore-eos"};
  const ProgramResult one = Run(chat, "Who made the heavens?\n");
  EXPECT_EQ(one.status, 0) << one.err;
  EXPECT_GT(one.out.size(), 8u);
  const ProgramResult two = Run(chat, "Who made the heavens?\n/reset\nWho made the heavens?\n/exit\nnot read\n");
  EXPECT_EQ(two.status, 0) << two.err;
  EXPECT_EQ(two.out, one.out + one.out);
  EXPECT_EQ(Run(chat, "\xef\xbb\xbfWho made the heavens?\r\n/exit\r\nnot read\r\n").out, one.out);
  Refuses({"chat", "--n", "2"}, "--n: a conversation goes on from one answer");
}

TEST_F(ClientProgram, ShowsTheStatus) {
  const ProgramResult text = Run({"status"});
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("kjv  serving"));
  EXPECT_THAT(text.out, HasSubstr("KV cache"));
  EXPECT_THAT(text.out, Not(HasSubstr("\033")));  // no colours without a terminal
  const Json json = Json::parse(Run({"status", "--format", "json"}).out);
  EXPECT_EQ(json.at("model"), "kjv");
  EXPECT_EQ(json.at("state"), "SERVING");
  EXPECT_TRUE(json.contains("requests_waiting"));  // it is there, though 0
}

TEST_F(ClientProgram, MeasuresAndSaysWhatCameFromTheCache) {
  const std::string output = Path("bench.json");
  Arguments bench = {"bench", "--requests",    "6", "--prompt-tokens", "64",  "--max-tokens",
                     "4",     "--concurrency", "3", "--output",        output};
  ProgramResult result = Run(bench);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("time to first token (TTFT)"));
  Json report = Json::parse(Read(output));
  EXPECT_EQ(report.at("completed"), 6);
  EXPECT_EQ(report.at("total_input_tokens"), 6 * 64);
  EXPECT_EQ(report.at("total_cached_tokens"), 0);
  EXPECT_EQ(report.at("total_output_tokens"), 6 * 4);
  EXPECT_GT(report.at("p99_ttft_ms"), 0);
  // The same seed makes the same prompts.
  result = Run(bench);
  report = Json::parse(Read(output));
  EXPECT_GT(report.at("total_cached_tokens"), 0);
  EXPECT_THAT(result.out, HasSubstr("prompt tokens from the cache"));

  result = Run({"bench", "--requests", "6", "--prompt-tokens", "16", "--max-tokens", "2", "--rate", "100", "--seed",
                "5", "--output", output});
  EXPECT_EQ(result.status, 0) << result.err;
  report = Json::parse(Read(output));
  EXPECT_EQ(report.at("completed"), 6);
  EXPECT_EQ(report.at("request_rate"), 100);

  Refuses({"bench", "--output", "/nonexistent/bench.json"}, "cannot write /nonexistent/bench.json");
  Refuses({"bench", "--rate", "0"}, "--rate: \"0\" is not a number in [0.001, 100000]");
  Refuses({"bench", "--rate", "2", "--concurrency", "2"}, "excludes");
  Refuses({"bench", "--prompt-tokens", "0"}, "--prompt-tokens");
}

TEST_F(ClientProgram, SaysThatNoDaemonIsThere) {
  for (const Arguments& command :
       {Arguments{"generate", "In"}, {"chat"}, {"status"}, {"bench"}, {"plan"}, {"layers", "--tokens", "5"}}) {
    Arguments all = {"--server", "127.0.0.1:1"};
    all.insert(all.end(), command.begin(), command.end());
    const ProgramResult away = Run(all);
    EXPECT_EQ(away.status, 69) << away.err;
    EXPECT_THAT(away.err, HasSubstr("no daemon answers at 127.0.0.1:1"));
  }
  for (const char* address : {"localhost:99999", "http://localhost:50051", "localhost"}) {
    Refuses({"--server", address, "status"}, absl::StrCat("--server: \"", address, "\": expected HOST:PORT"));
  }
  // A proxy is not asked for this machine's own addresses.
  const ProgramResult status = RunProgram("causeway", {"status"},
                                          {{"CAUSEWAY_SERVER", daemon_->grpc()},
                                           {"http_proxy", "http://127.0.0.1:1"},
                                           {"grpc_proxy", "http://127.0.0.1:1"},
                                           {"no_proxy", ""},
                                           {"no_grpc_proxy", ""}});
  EXPECT_EQ(status.status, 0) << status.err;
}

TEST_F(ClientProgram, RefusesWhatItWouldIgnore) {
  Refuses({"generat", "In"}, "unknown command \"generat\"; expected generate, chat, status, plan, layers or bench");
  Refuses({}, "subcommand");
  Refuses({"generate", "--tokns", "1"}, "--tokns");
  Refuses({"generate", "--timeout", "-1", "In"}, "--timeout: \"-1\" is not a number in [0, 604800]");
  Refuses({"generate", "--timeout", "nan", "In"}, "--timeout: \"nan\"");
  Refuses({"generate", "--temperature", "9", "In"}, "sampling.temperature is 9");
  Refuses({"generate", "--logprobs", "1", "In"}, "--logprobs: needs --format json");
  Refuses({"generate", "--concurrency", "2", "In"}, "--concurrency requires --input");
  Refuses({"generate", "--tokens", "1,2", "In"}, "excludes");
  Refuses({"generate", "--tokens", "1,x"}, "\"x\" is no token id");
  Refuses({"generate", "--tokens", ""}, "no token ids; expected ids as in 12,7,99");
  Refuses({"generate", "--input", "/tmp", "--output", Path("unused.jsonl")}, "\"/tmp\" cannot be read: Is a directory");
  Refuses({"generate", "--input", "", "--output", Path("unused.jsonl")},
          "\"\" cannot be read: No such file or directory");
  const std::string input = Write("one.jsonl", "{\"prompt\": \"In\"}\n");
  Refuses({"generate", "--input", input}, "--input requires --output");
  std::filesystem::remove(Path("unused.jsonl"));
  for (const Arguments& unused : {Arguments{"In"},
                                  {"--echo"},
                                  {"--tokens", "1"},
                                  {"--format", "json"},
                                  {"--format", "json", "--logprobs", "1"}}) {
    Arguments all = {"generate", "--input", input, "--output", Path("unused.jsonl")};
    all.insert(all.end(), unused.begin(), unused.end());
    Refuses(all, "excludes");
  }
  EXPECT_FALSE(std::filesystem::exists(Path("unused.jsonl")));
}

}  // namespace
}  // namespace causeway
