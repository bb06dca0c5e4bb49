#include "server/cluster/slurm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

TEST(Slurm, FindsTheFirstHost) {
  const std::vector<std::pair<std::string, std::string>> lists = {
      {"node1", "node1"},
      {"node1,node2", "node1"},
      {"node[03-05,9]", "node03"},
      {"node[03-05,9],gpu[1-2]", "node03"},
      {"gnode[10,20,25,37]", "gnode10"},
      {"login,node[03-05]", "login"},
      {"r[1-2]n[4,6]", "r1n4"},
      {"sh04-10n[05-06]-ib", "sh04-10n05-ib"},
      {"node[7].cluster,node8.cluster", "node7.cluster"},
      {"10.0.0.[1-2]", "10.0.0.1"},
  };
  for (const auto& [list, host] : lists) {
    const auto first = FirstHost(list);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(*first, host) << list;
  }
}

TEST(Slurm, RefusesWhatIsNoListOfHosts) {
  for (const std::string list : {"", ",node1", "node[", "node[1-2", "node]1", "node[]", "node[-2]", "node[1]]"}) {
    EXPECT_EQ(FirstHost(list).status().message(),
              absl::StrCat("expected a list of hosts such as node[03-05,9], got \"", list, "\""));
  }
}

TEST(Slurm, CountsTheTasksOfANode) {
  const auto tasks = [](const std::string& list, int nodes) {
    std::vector<int> counts;
    for (int node = 0; node < nodes; ++node) counts.push_back(TasksOnNode(list, node).value());
    return counts;
  };
  EXPECT_EQ(tasks("4", 1), std::vector<int>({4}));
  EXPECT_EQ(tasks("2(x3),1", 4), std::vector<int>({2, 2, 2, 1}));
  EXPECT_EQ(tasks("1,2,1(x3),3,2", 7), std::vector<int>({1, 2, 1, 1, 1, 3, 2}));
  EXPECT_EQ(TasksOnNode("2(x3),1", 4).status().message(),
            "expected the tasks of node 4 and others, such as 2(x3),1, got \"2(x3),1\"");
  for (const std::string list : {"", "x", "2(x", "2(x)", "2(x0)", "2(3)", "-1", ","}) {
    EXPECT_EQ(TasksOnNode(list, 0).status().code(), absl::StatusCode::kInvalidArgument) << list;
  }
}

}  // namespace
}  // namespace causeway
