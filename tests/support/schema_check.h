// Whether a value satisfies a JSON schema, with exact numbers. engine/text/grammar_schema_test.cc holds it against
// jsonschema.
#ifndef CAUSEWAY_TESTS_SUPPORT_SCHEMA_CHECK_H_
#define CAUSEWAY_TESTS_SUPPORT_SCHEMA_CHECK_H_

#include <string>

#include "tests/support/exact_json.h"

namespace causeway {

// Empty where it does, else a keyword that is not satisfied and where. Knows the keywords that grammars follow, except
// format; $ref leads to a place or to an $anchor. Of a name that comes twice, every value has to be right.
std::string SchemaViolation(const ExactJson& schema, const ExactJson& value);

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_SUPPORT_SCHEMA_CHECK_H_
