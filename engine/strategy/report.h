// A search for people and for programs.
#ifndef CAUSEWAY_ENGINE_STRATEGY_REPORT_H_
#define CAUSEWAY_ENGINE_STRATEGY_REPORT_H_

#include <string>

#include "engine/strategy/search.h"

namespace causeway {

struct SearchReport {
  std::string model;  // "llama, 1.10 B parameters, bf16"
  const Fleet& fleet;
  const Workload& workload;
  const Search& search;
};

std::string SearchTable(const SearchReport& report);
std::string SearchMarkdown(const SearchReport& report);
std::string SearchJson(const SearchReport& report);
// A row for each candidate, those dropped included; scripts/plot_search.py reads it.
std::string SearchCsv(const SearchReport& report);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_STRATEGY_REPORT_H_
