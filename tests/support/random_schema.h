// Makes random JSON schemas, and tells whether a value satisfies one. It knows just the keywords that it uses.
#ifndef CAUSEWAY_TESTS_SUPPORT_RANDOM_SCHEMA_H_
#define CAUSEWAY_TESTS_SUPPORT_RANDOM_SCHEMA_H_

#include <random>
#include <string>

#include <nlohmann/json.hpp>

namespace causeway {

// The schemas have objects with optional members, arrays, enums, numbers in ranges, strings with lengths and patterns,
// nested `depth` deep.
nlohmann::json RandomSchema(std::mt19937_64& random, int depth);

// Returns nothing when the value satisfies the schema, else where it does not and why.
std::string Violation(const nlohmann::json& schema, const nlohmann::json& value);

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_SUPPORT_RANDOM_SCHEMA_H_
