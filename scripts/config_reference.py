#!/usr/bin/env python3
"""Makes docs/configuration.md, and the texts of `causewayd --help`, from the comments and options of config.proto.

  scripts/config_reference.py               write docs/configuration.md
  scripts/config_reference.py --check       fail when docs/configuration.md is not what would be written
  scripts/config_reference.py --help-table FILE   write the C++ table of texts that the daemon is built with
"""
import argparse
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto/causeway/v1/config.proto"
PAGE = ROOT / "docs/configuration.md"
FIELD = re.compile(r"(\w+) (\w+) = \d+\s*(\[\(rules\) = \{(.*)\}\])?;", re.S)


def rules_of(text):
    """The options of one field: scalars, texts and lists of texts."""
    rules = {}
    for key, value in re.findall(r'(\w+):\s*("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[-\w.]+)', text or ""):
        rules[key] = json.loads(value) if value[0] in '"[' else value
    return rules


def parse(text):
    """[(message name, its comment, [(type, name, comment, rules)])] in the file's order."""
    messages = []
    comment, statement, message = [], "", None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith("//") and not statement:
            comment.append(line[2:].strip())
        elif match := re.fullmatch(r"(?:message|extend) ([\w.]+) \{", line):
            message = (match[1], " ".join(comment), [])
            messages.append(message)
            comment = []
        elif line == "}" and not statement:
            message, comment = None, []
        elif not line:
            comment = [] if not statement else comment
        elif message:
            statement = f"{statement} {line}".strip()
            if statement.endswith(";"):
                match = FIELD.fullmatch(statement.removeprefix("optional ").removeprefix("repeated "))
                if not match:
                    sys.exit(f"{PROTO.name}:{number}: cannot read the field: {statement}")
                message[2].append((match[1], match[2], " ".join(comment), rules_of(match[4])))
                comment, statement = [], ""
        else:
            comment = []
    return messages


def sections():
    """[(section, comment, [(type, field, comment, rules)])] of the message Config."""
    messages = {name: (comment, fields) for name, comment, fields in parse(PROTO.read_text())}
    out = []
    for kind, section, _, _ in messages["Config"][1]:
        comment, fields = messages[kind]
        for _, field, text, rules in fields:
            if not text or "flag" not in rules:
                sys.exit(f"{PROTO.name}: {section}.{field} needs a comment and a flag")
        out.append((section, comment, fields))
    return out


def page():
    lines = [
        "# Configuration",
        "",
        "Made from `proto/causeway/v1/config.proto` by `scripts/config_reference.py`; change that file, not this page.",
        "",
        "`causewayd serve --config FILE` reads YAML: sections with fields, as below. Each field can also be set by",
        "a flag and by an environment variable. A flag goes before the environment, that before the file, that",
        "before the default; an empty variable counts as unset. An unknown name, a wrong type or a value out of",
        "range ends the program with exit status 78 (a wrong flag: 64) and a message that says where.",
        "`--[no-]x` is two flags: `--x` for true, `--no-x` for false.",
        "",
        "On SIGHUP a daemon with `--config FILE` reads file, environment and flags again. It takes the new values of",
        "the fields marked \u21bb and logs their names, with those of changed fields that need a restart. When",
        "anything is wrong in the file, it says so in the log and changes nothing. A daemon without a file drains on",
        "SIGHUP, as it does on SIGTERM.",
        "",
        "```yaml",
        "model:",
        "  path: /srv/models/llama-3-8b",
        "placement:",
        "  max_memory: {0: 40GB, 1: 60GB}",
        "batching:",
        "  max_num_seqs: 128",
        "server:",
        "  listen: 0.0.0.0:50051",
        "```",
    ]
    types = {"int64": "whole number", "double": "number", "string": "text", "bool": "true or false"}
    for section, comment, fields in sections():
        lines += ["", f"## {section}", "", comment, "", "| field | flag | type | default | meaning |",
                  "| --- | --- | --- | --- | --- |"]
        for kind, field, text, rules in fields:
            kind = types[kind]
            if rules.get("one_of"):
                kind = "one of " + ", ".join(f"`{v}`" for v in rules["one_of"])
            elif "min" in rules:
                kind += f" in [{number(rules['min'])}, {number(rules['max'])}]"
            if "map_as_json" in rules or "map_as_list" in rules:
                kind += ", or a map"
            default = f"`{rules['default']}`" if rules.get("default") else "none"
            flag = f"`--[no-]{rules['flag']}`" if kind == "true or false" else f"`--{rules['flag']} {rules['value']}`"
            mark = " \u21bb" if rules.get("reloadable") == "true" else ""
            lines.append(f"| `{field}`{mark} | {flag} | {kind} | {default} | {text.replace('|', chr(92) + '|')} |")
        lines += ["", f"Environment: `CAUSEWAY_{section.upper()}_` and the field in capitals, such as "
                      f"`CAUSEWAY_{section.upper()}_{fields[0][1].upper()}`."]
    return "\n".join(lines) + "\n"


def number(text):
    value = float(text)
    return str(int(value)) if value.is_integer() else text


def help_table():
    rows = []
    for section, comment, fields in sections():
        rows.append((section, comment))
        rows += [(f"{section}.{field}", text) for _, field, text, _ in fields]
    body = "".join(f"    {{{json.dumps(path)}, {json.dumps(text)}}},\n" for path, text in rows)
    return ("// Made by scripts/config_reference.py from config.proto.\n"
            '#include "server/startup/field_help.h"\n\n'
            "namespace causeway {\n\n"
            f"static constexpr FieldHelp kTable[] = {{\n{body}}};\n"
            "const absl::Span<const FieldHelp> kFieldHelp = kTable;\n\n"
            "}  // namespace causeway\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--help-table", type=pathlib.Path)
    options = parser.parse_args()
    if options.help_table:
        options.help_table.parent.mkdir(parents=True, exist_ok=True)
        options.help_table.write_text(help_table())
    elif options.check:
        if not PAGE.exists() or PAGE.read_text() != page():
            sys.exit(f"{PAGE.relative_to(ROOT)} is not what config.proto says: run scripts/config_reference.py")
    else:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page())


if __name__ == "__main__":
    main()
