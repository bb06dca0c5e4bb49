// Makes random JSON schemas.
#ifndef CAUSEWAY_TESTS_SUPPORT_RANDOM_SCHEMA_H_
#define CAUSEWAY_TESTS_SUPPORT_RANDOM_SCHEMA_H_

#include <random>

#include <nlohmann/json.hpp>

namespace causeway {

// The schemas have objects with optional members, arrays, enums, numbers in ranges, strings with lengths and patterns,
// nested `depth` deep.
nlohmann::json RandomSchema(std::mt19937_64& random, int depth);

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_SUPPORT_RANDOM_SCHEMA_H_
