#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "server/doctor/doctor.h"

namespace causeway {
namespace {

const char* GradeName(Grade grade) {
  return grade == Grade::kGood ? "good" : grade == Grade::kAdvice ? "advice" : "problem";
}

// `text` after `indent` columns, broken at spaces; the first line is not indented.
std::string Wrapped(const std::string& text, size_t indent, size_t width) {
  std::string lines;
  size_t column = indent;
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    if (column > indent && column + 1 + word.size() > width) {
      absl::StrAppend(&lines, "\n", std::string(indent, ' '));
      column = indent;
    } else if (column > indent) {
      lines += ' ';
      ++column;
    }
    absl::StrAppend(&lines, word);
    column += word.size();
  }
  return lines;
}

}  // namespace

Grade Worst(const std::vector<Finding>& findings) {
  Grade worst = Grade::kGood;
  for (const Finding& finding : findings) worst = std::max(worst, finding.grade);
  return worst;
}

std::string DoctorTable(const std::vector<Finding>& findings, size_t width) {
  size_t column = 0;
  for (const Finding& finding : findings) column = std::max(column, finding.what.size());
  std::string text;
  int advice = 0, problems = 0;
  for (const Finding& finding : findings) {
    advice += finding.grade == Grade::kAdvice;
    problems += finding.grade == Grade::kProblem;
    const char* mark = finding.grade == Grade::kGood ? "✓" : finding.grade == Grade::kAdvice ? "!" : "✗";
    const size_t indent = column + 4;
    absl::StrAppend(&text, mark, " ", finding.what, std::string(column - finding.what.size() + 2, ' '),
                    Wrapped(finding.found, indent, width), "\n");
    if (!finding.remedy.empty())
      absl::StrAppend(&text, std::string(indent, ' '), "→ ", Wrapped(finding.remedy, indent + 2, width), "\n");
  }
  if (problems > 0)
    return absl::StrCat(text, "\nNot ready: ", problems, problems == 1 ? " problem.\n" : " problems.\n");
  if (advice > 0) return absl::StrCat(text, "\nReady; ", advice, " could be better.\n");
  return text + "\nReady.\n";
}

std::string DoctorJson(const std::vector<Finding>& findings) {
  nlohmann::ordered_json json = {{"ready", Worst(findings) != Grade::kProblem},
                                 {"findings", nlohmann::ordered_json::array()}};
  for (const Finding& finding : findings) {
    json["findings"].push_back({{"what", finding.what},
                                {"grade", GradeName(finding.grade)},
                                {"found", finding.found},
                                {"remedy", finding.remedy}});
  }
  return json.dump(2) + "\n";
}

}  // namespace causeway
