// Random JSON schemas, and whether a value satisfies one: just the keywords that Random uses.
#ifndef CAUSEWAY_TESTS_SUPPORT_RANDOM_SCHEMA_H_
#define CAUSEWAY_TESTS_SUPPORT_RANDOM_SCHEMA_H_

#include <random>
#include <string>

#include <nlohmann/json.hpp>

namespace causeway {

// Objects with optional members, arrays, enums, numbers in ranges, strings with lengths and patterns, nested `depth`
// deep.
nlohmann::json RandomSchema(std::mt19937_64& random, int depth);

// Empty when it does, else where and why not.
std::string Violation(const nlohmann::json& schema, const nlohmann::json& value);

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_SUPPORT_RANDOM_SCHEMA_H_
