"""Rules about READMEs and docs/; see tidy.py."""
import posixpath
import re

from tree import line_of

README_LINES_MAX = 50


def check_readmes(tree):
    folders = {path.split("/")[1] for path in tree if path.startswith("engine/") and path.count("/") >= 2}
    for folder in sorted(folders):
        path = f"engine/{folder}/README.md"
        if path not in tree:
            yield path, 1, "is missing: purpose, main types, what the folder must not know"
        elif tree[path].count("\n") > README_LINES_MAX:
            lines = tree[path].count("\n")
            yield path, README_LINES_MAX, f"{lines} lines, expected at most {README_LINES_MAX}: it has to fit a screen"


def is_there(tree, folders, name, base):
    """A file, a folder, or a pair named without its extension ("engine/plan/units"), from the top or from `base`."""
    for root in ("", base):
        full = posixpath.normpath(posixpath.join(root, name.rstrip("/")))
        if full in tree or full in folders:
            return True
        if "*" in full and any(re.fullmatch(re.escape(full).replace(r"\*", "[^/]*"), path) for path in tree):
            return True
        if any(full + extension in tree for extension in (".h", ".cc", ".cu", ".proto")):
            return True
    return False


def check_doc_paths(tree):
    """Files, folders and links that the docs name exist."""
    folders = {posixpath.dirname(path) for path in tree}
    folders |= {posixpath.dirname(folder) for folder in folders}
    tops = {path.split("/")[0] for path in tree if "/" in path}
    for path, text in tree.items():
        if not path.endswith(".md"):
            continue
        base = posixpath.dirname(path)
        prose = re.sub(r"```.*?```", lambda block: re.sub(r"[^\n]", " ", block.group(0)), text, flags=re.S)
        for match in re.finditer(r"`([\w.*-]+(?:/[\w.*-]+)*/?)`", prose):
            name = match.group(1)
            in_tree = "/" in name and name.split("/")[0] in tops
            beside = re.fullmatch(r"\w[\w-]*\.(cc|h|cu|rs)", name) and path.startswith("engine/")
            if (in_tree or beside) and not is_there(tree, folders, name, base):
                yield path, line_of(prose, match.start()), f"{name} does not exist"
        for match in re.finditer(r"\]\(([^)#\s]+)[^)]*\)", prose):
            name = match.group(1)
            if not re.match(r"\w+:", name) and not is_there(tree, folders, name, base):
                yield path, line_of(prose, match.start()), f"the link to {name} leads nowhere"


def check_doc_names(tree):
    """Types and functions that docs/ names exist: `DeviceWorker::RunSegment`, `MakePlan`, `Next()`."""
    code = "\n".join(text for path, text in tree.items() if path.endswith((".h", ".cc", ".cu", ".rs", ".proto")))
    words = set(re.findall(r"\w+", code))
    for path, text in tree.items():
        if not re.match(r"(docs/[^/]+|README)\.md$", path):
            continue
        for match in re.finditer(r"`((?:\w+(?:::|\.))*\w+)(\([^`]*\))?`", text):
            parts = re.split(r"::|\.", match.group(1))
            is_name = match.group(2) is not None or "::" in match.group(1) or all(
                re.match(r"[A-Z][a-z0-9]+[A-Z]", part) for part in parts)
            for part in parts:
                if is_name and part not in words:
                    yield path, line_of(text, match.start()), f"{match.group(0)}: there is no {part} in the code"


def check_metrics(tree):
    """docs/metrics.md lists the metrics that the code exports, all of them and no others."""
    metric = re.compile(r'"(causeway_[a-z0-9_]+)"')
    exported = {}
    for path, text in tree.items():
        if path.startswith("server/telemetry/") and path.endswith(".cc"):
            for match in metric.finditer(text):
                exported.setdefault(match.group(1), (path, line_of(text, match.start())))
    page = tree.get("docs/metrics.md", "")
    listed = {match.group(1): line_of(page, match.start())
              for match in re.finditer(r"^\| `(causeway_\w+)`", page, re.M)}
    for name, (path, line) in exported.items():
        if name not in listed:
            yield path, line, f"{name} is not in docs/metrics.md"
    for name, line in listed.items():
        if name not in exported:
            yield "docs/metrics.md", line, f"no code exports {name}"


def check_all_named(tree):
    """What exists is named: folders of code in docs/architecture.md, commands of the two programs somewhere in the
    docs."""
    page = tree.get("docs/architecture.md")
    docs = "\n".join(text for path, text in tree.items() if path.endswith(".md"))
    folders = {posixpath.dirname(path) for path in tree if re.match(r"(engine|server)/[^/]+/[^/]+\.(cc|h|cu)$", path)}
    for folder in sorted(folders if page is not None else ()):
        if f"`{folder}/`" not in page:
            yield "docs/architecture.md", 1, f"{folder}/ is not in its table of folders"
    patterns = {r"server/main\.cc$": (r'command == "(\w+)"\) return', "causewayd"),
                r"client/\w+\.cc$": (r'add_subcommand\("(\w+)"', "causeway")}
    for path, text in tree.items():
        for files, (pattern, program) in patterns.items():
            for match in re.finditer(pattern, text) if re.match(files, path) else ():
                if not re.search(rf"\b{program} (--\w+ \S+ )?{match.group(1)}\b", docs):
                    yield path, line_of(text, match.start()), f"no page names `{program} {match.group(1)}`"
