"""Makes schema_cases.json: random JSON schemas, texts, and which of them satisfy the schema, as jsonschema finds with
exact numbers.

    python make_schema_cases.py        needs jsonschema; the version used is noted in the file
"""

import decimal
import importlib.metadata
import json
import numbers
import random
import re
from decimal import Decimal
from pathlib import Path

import jsonschema

decimal.getcontext().prec = 3000
SCHEMAS = 420
TEXTS_OF_EACH = 14
MARKS = [
    0,
    1,
    7,
    10,
    99,
    100,
    255,
    2**31,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    10**19,
    10**20,
    123456789012345678,
    10**30 + 7,
    10**100 + 3,
]
PARTS = ["0.1", "0.5", "1.05", "9.99", "0.0000001", "12345.678901234567890123", "0.30000000000000001", "99.999"]
STEPS = ["1", "2", "3", "7", "10", "0.5", "0.25", "0.01", "2.5", "1e2", "10000", "0.0001"]
NAMES = [
    "a",
    "b",
    "kind",
    "a/b",
    "a~b",
    "a b",
    "ü",
    "",
    'say "hi"',
    "line\nbreak",
    "back\\slash",
    "100%",
    "$ref",
    "x1",
    "x2",
]
TEXTS = ["", "a", "ab", "abc", "abcdef", "ü語", 'q"q', "\\", "tab\t", "x1", "12", "no"]
PATTERNS = ["^[a-z]+$", "[0-9]", "^(yes|no|ab)$", "^x"]


class Written(str):
    """A number as it is written in a schema."""


def dump(value):
    if isinstance(value, Written):
        return str(value)
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(json.dumps(name, ensure_ascii=False) + ":" + dump(member) for name, member in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    if isinstance(value, Decimal):
        text = format(value, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text in ("-0", "") else text
    return json.dumps(value, ensure_ascii=False)


def load(text):
    return json.loads(text, parse_float=Decimal, parse_int=int)


def is_number(_, value):
    return isinstance(value, numbers.Number) and not isinstance(value, bool)


def is_integer(checker, value):
    return is_number(checker, value) and value == int(value)


TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many({"number": is_number, "integer": is_integer})
EXACT = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=TYPES)


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.definitions = {}
        self.references = 0

    def chance(self, part):
        return self.random.random() < part

    def written(self, value):
        """The number in one of several ways."""
        text = dump(Decimal(value))
        if "." in text or text == "0":
            return Written(text)
        ways = [text, text, text + ".0", text + "e0", text + "0e-1"]
        if text.endswith("00"):
            ways.append(text[:-2] + "E+2")
        return Written(self.random.choice(ways))

    def number(self):
        value = Decimal(self.random.choice(MARKS) + self.random.randint(-3, 3))
        if self.chance(0.3):
            value += Decimal(self.random.choice(PARTS))
        return -value if self.chance(0.4) else value

    def numeric(self, _):
        """Each maker returns a schema and values that may satisfy it or not."""
        schema = {"type": self.random.choice(["integer", "integer", "number"])}
        low, values = self.number(), []
        width = self.random.choice([0, 1, 2, 5, 30, 1000, 10**6, 10**21, Decimal("0.001"), Decimal("0.75")])
        high = low + width
        if self.chance(0.75):
            schema[self.random.choice(["minimum", "minimum", "exclusiveMinimum"])] = self.written(low)
        if self.chance(0.75):
            schema[self.random.choice(["maximum", "maximum", "exclusiveMaximum"])] = self.written(high)
        step = Decimal(1)
        if self.chance(0.35):
            schema["multipleOf"] = Written(self.random.choice(STEPS))
            step = Decimal(schema["multipleOf"])
        for mark in (low, high):
            near = (mark / step).to_integral_value() * step
            values += [
                mark,
                mark - 1,
                mark + 1,
                near,
                near + step,
                near - step,
                mark + Decimal("0.0000001"),
                mark.to_integral_value(),
            ]
        values += [0, (low + high) / 2, ((low + high) / 2).to_integral_value(), -low]
        return schema, values

    def split_numeric(self, depth):
        schema, values = self.numeric(depth)
        keywords = list(schema.items())
        self.random.shuffle(keywords)
        cut = self.random.randint(0, len(keywords))
        return {"allOf": [dict(keywords[:cut]), dict(keywords[cut:])]}, values

    def scalar(self):
        return self.random.choice([self.number(), self.number(), True, False, None, self.random.choice(TEXTS)])

    def container(self):
        return self.random.choice([[self.number()], {"a": self.number()}, [], {"a": [True, self.number()], "b": "x"}])

    def as_written(self, value):
        if isinstance(value, list):
            return [self.as_written(item) for item in value]
        if isinstance(value, dict):
            return {name: self.as_written(member) for name, member in value.items()}
        return self.written(value) if isinstance(value, Decimal) else value

    def fixed(self, _):
        values = [self.scalar() if self.chance(0.75) else self.container() for _ in range(self.random.randint(1, 4))]
        near = [value + self.random.choice([-1, 1, Decimal("0.001")]) for value in values if isinstance(value, Decimal)]
        near += [[value] for value in values] + [True, 0, 1]
        schema = {"const": self.as_written(values[0])} if self.chance(0.4) else {"enum": self.as_written(values)}
        if self.chance(0.3):
            schema["type"] = self.random.choice(["integer", "number", "string", ["string", "integer"]])
        if self.chance(0.2):
            schema["minimum"] = self.written(self.number())
        return schema, values + near

    def text(self, _):
        schema = {"type": "string"}
        if self.chance(0.5):
            schema["minLength"] = Written(self.random.choice(["0", "1", "2.0", "3", "1e0"]))
        if self.chance(0.5):
            schema["maxLength"] = Written(self.random.choice(["3", "4.0", "6", "1e1"]))
        if self.chance(0.3):
            schema["pattern"] = self.random.choice(PATTERNS)
        return schema, TEXTS + [None]

    def plain(self, _):
        schema = self.random.choice(
            [{"type": "boolean"}, {"type": "null"}, {}, True, {"type": ["null", "integer"]}, {"description": "x"}]
        )
        return schema, [True, None, 3, "a", [1], {"a": 1}]

    def array(self, depth):
        items, values = self.any(depth - 1)
        schema = {"type": "array", "items": items}
        if self.chance(0.4):
            first = [self.any(depth - 1) for _ in range(self.random.randint(1, 2))]
            schema["prefixItems"] = [one for one, _ in first]
            if self.chance(0.3):
                schema["items"] = False
            values = values + [value for _, of_one in first for value in of_one]
        if self.chance(0.4):
            schema["minItems"] = Written(self.random.choice(["1", "2.0", "1e0", "3"]))
        if self.chance(0.4):
            schema["maxItems"] = Written(self.random.choice(["3", "4.0", "5"]))
        lists = [[]] + [self.random.choices(values, k=k) for k in (1, 1, 2, 2, 3, 4, 6)]
        return schema, lists + [{"a": 1}]

    def object(self, depth):
        names = self.random.sample(NAMES, self.random.randint(1, 4))
        members = {name: self.any(depth - 1) for name in names}
        schema = {
            "type": "object",
            "properties": {name: one for name, (one, _) in members.items()},
            "required": [name for name in names if self.chance(0.5)],
        }
        extra = [5, "a", None]
        if self.chance(0.6):
            schema["additionalProperties"] = False
            if self.chance(0.3):
                schema["minProperties"] = self.written(self.random.randint(0, len(names)))
            if self.chance(0.3):
                schema["maxProperties"] = self.written(self.random.randint(1, len(names)))
        elif self.chance(0.5):
            schema["additionalProperties"], extra = self.any(depth - 1)
        if self.chance(0.25):
            schema["patternProperties"] = {"^p": {"type": "integer"}, "^q": True}
        objects = []
        for _ in range(10):
            chosen = {
                name: self.random.choice(members[name][1])
                for name in names
                if name in schema["required"] or self.chance(0.6)
            }
            if self.chance(0.15) and chosen:
                del chosen[self.random.choice(list(chosen))]
            for name in ("zz", "p1", "q1"):
                if self.chance(0.15):
                    chosen[name] = self.random.choice(extra)
            objects.append(chosen)
        return schema, objects + [[], 1]

    def any_of(self, depth):
        branches = [self.any(depth - 1) for _ in range(self.random.randint(2, 3))]
        return {"anyOf": [one for one, _ in branches]}, [value for _, values in branches for value in values]

    def one_of(self, depth):
        if self.chance(0.5):
            low, high = (self.numeric(depth)[0] for _ in range(2))
            cut = self.number()
            low["exclusiveMaximum"], high["minimum"] = self.written(cut), self.written(cut)
            for one in (low, high):
                one.pop("multipleOf", None)
            low.pop("maximum", None)
            high.pop("exclusiveMinimum", None)
            return {"oneOf": [low, high, {"type": "string"}]}, [cut, cut - 1, cut + 1, "a", None, -cut]
        kinds = []
        for kind in ("one", "two", 3):
            one, values = self.any(depth - 1)
            kinds.append(
                (
                    {
                        "type": "object",
                        "properties": {"kind": {"const": kind}, "is": one},
                        "required": ["kind"],
                        "additionalProperties": False,
                    },
                    [{"kind": kind, "is": value} for value in values],
                )
            )
        return {"oneOf": [one for one, _ in kinds]}, [value for _, values in kinds for value in values] + [
            {"kind": "four"}
        ]

    def reference(self, depth):
        self.references += 1
        name = self.random.choice(["plain", "with/slash", "with~tilde", "with space", "ü", "100%"]) + str(
            self.references
        )
        schema, values = self.any(depth - 1)
        self.definitions[name] = schema
        if self.chance(0.2) and isinstance(schema, dict) and schema:
            schema["$anchor"] = f"anchor{self.references}"
            return {"$ref": "#" + schema["$anchor"]}, values
        pointer = (
            name.replace("~", "~0").replace("/", "~1").replace("%", "%25").replace(" ", "%20").replace("ü", "%C3%BC")
        )
        return {"$ref": "#/$defs/" + pointer}, values

    def chain(self, _):
        schema, values = self.numeric(0)
        self.definitions["chain"] = {
            "type": "object",
            "properties": {"n": schema, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/chain"}]}},
            "required": ["n"],
            "additionalProperties": False,
        }
        values = values[:6]
        return {"$ref": "#/$defs/chain"}, [{"n": value} for value in values] + [
            {"n": values[0], "next": {"n": value, "next": None}} for value in values
        ]

    def any(self, depth):
        kinds = [self.numeric, self.numeric, self.split_numeric, self.fixed, self.fixed, self.text, self.plain]
        if depth > 0:
            kinds += [
                self.array,
                self.array,
                self.object,
                self.object,
                self.object,
                self.any_of,
                self.one_of,
                self.reference,
                self.reference,
            ]
        if depth > 1:
            kinds.append(self.chain)
        schema, values = self.random.choice(kinds)(depth)
        if isinstance(schema, dict) and self.chance(0.15):
            schema.update(
                self.random.choice(
                    [
                        {"uniqueItems": False},
                        {"dependentRequired": {}},
                        {"propertyNames": True},
                        {"title": "t"},
                        {"unevaluatedProperties": True},
                        {"default": Written("1e999")},
                    ]
                )
            )
        return schema, values


def case(seed):
    maker = Maker(seed)
    schema, values = maker.any(3)
    if maker.definitions:
        schema = (
            {**schema, "$defs": maker.definitions}
            if isinstance(schema, dict) and "$ref" not in schema
            else {"allOf": [schema], "$defs": maker.definitions}
        )
    text = dump(schema)
    validator = EXACT(load(re.sub(r'"default":1e999', '"default":0', text)))
    texts = {True: [], False: []}
    maker.random.shuffle(values)
    for value in values:
        written = dump(value)
        verdict = validator.is_valid(load(written))
        if written not in texts[verdict] and len(texts[verdict]) < TEXTS_OF_EACH // 2:
            texts[verdict].append(written)
    return {"schema": text, "valid": texts[True], "invalid": texts[False]}


def main():
    cases = [case(seed) for seed in range(SCHEMAS)]
    document = {"jsonschema": importlib.metadata.version("jsonschema"), "cases": cases}
    path = Path(__file__).parent / "schema_cases.json"
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(
        len(cases),
        "schemas,",
        sum(len(c["valid"]) for c in cases),
        "valid and",
        sum(len(c["invalid"]) for c in cases),
        "invalid texts",
    )


if __name__ == "__main__":
    main()
