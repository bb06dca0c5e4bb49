"""Makes format_cases.json: texts by format, each checked to be of it or not by the checkers that jsonschema uses.

    python make_format_cases.py        needs jsonschema[format]; the version used is noted in the file

What the grammar leaves out on purpose (leap seconds, the year 0, encoded host names) is in neither list.
"""

import importlib.metadata
import json
from pathlib import Path

import jsonschema

CASES = {
    "date": (
        ["2024-02-29", "2000-02-29", "1999-12-31", "0001-01-01", "0004-02-29"],
        [
            "2023-02-29",
            "1900-02-29",
            "2024-02-30",
            "2024-04-31",
            "2024-13-01",
            "2024-00-10",
            "2024-1-1",
            "24-01-01",
            "0000-01-01",
            "2024-01-01 ",
            "",
        ],
    ),
    "time": (
        ["00:00:00Z", "23:59:59z", "12:30:00.123456789+05:30", "08:00:00-00:00"],
        ["24:00:00Z", "12:60:00Z", "12:00:00", "12:00Z", "12:00:00+24:00", "12:00:00.Z"],
    ),
    "date-time": (
        ["2024-02-29T00:00:00Z", "1985-04-12T23:20:50.52Z", "1990-12-31t15:59:59-08:00"],
        ["2023-02-29T00:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T25:00:00Z", "2024-01-01"],
    ),
    "duration": (
        ["P1Y", "P3D", "PT5M", "P1Y2M3DT4H5M6S", "P4W", "PT0S", "P1M"],
        ["P", "PT", "1D", "P1", "P1S", "PT1D", "P1YT", "P1W2D", ""],
    ),
    "email": (["joe.bloggs@example.com", "a+b_c@x-y.org", "~!#$%&'*+/=?^`{|}-@a.b"], ["example", ""]),
    "hostname": (
        ["localhost", "www.example.com", "xn.x", "a-b.c1", "1host", "a" * 63],
        ["-a", "a-", "a" * 64, "a_b", "a..b", "a b", "", "ä"],
    ),
    "ipv4": (
        ["0.0.0.0", "192.168.0.1", "255.255.255.255"],
        ["256.0.0.1", "1.2.3", "01.2.3.4", "1.2.3.4.5", "1.2.3.4/8", ""],
    ),
    "ipv6": (
        [
            "::",
            "::1",
            "1::",
            "1:2:3:4:5:6:7:8",
            "fe80::a:b",
            "::ffff:192.0.2.1",
            "64:ff9b::192.0.2.33",
            "1:2:3:4:5:6:1.2.3.4",
            "1:2:3:4:5:6:7::",
        ],
        [
            "1:2:3:4:5:6:7",
            "1::2::3",
            "12345::",
            ":::",
            "1:2:3:4:5:6:7:8:9",
            "::1.2.3.4.5",
            "::g",
            "1:2:3:4:5:6:7:1.2.3.4",
            "",
        ],
    ),
    "uuid": (
        ["2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2EB8AA08-AA98-11EA-B4AA-73B441D16380"],
        [
            "2eb8aa08aa9811eab4aa73b441d16380",
            "2eb8aa08-aa98-11ea-b4aa-73b441d1638",
            "2eb8aa08-aa98-11ea-b4ga-73b441d16380",
            "",
        ],
    ),
    "uri": (
        [
            "https://example.org/a/b?c=d&e=%20#f",
            "http://user:pw@h:80/",
            "mailto:a@b.c",
            "urn:isbn:0-486-27557-4",
            "file:///etc/x",
            "ftp://[::1]:21/",
            "x:",
            "a+b.c-d:/e//f",
        ],
        [
            "//example.org",
            "/a",
            "a",
            "1x:y",
            "http://a b",
            "http://a/%zz",
            "http://[::g]/",
            "http://a#b#c",
            "http://ä",
            "\\\\x",
            "",
        ],
    ),
    "uri-reference": (
        ["https://example.org/", "//h/p", "/a/b", "a/b:c", "?q", "#f", "", "./a:b"],
        ["a b", "\\\\x", "a:b c", "1a:b", "%2", "#a#b"],
    ),
    "iri": (["https://ünï.example/ü?ö#語", "http://a/b", "urn:ü"], ["/ü", "ü", "http://a b", "http://a/%z", ""]),
    "iri-reference": (["/ü", "ü", "//ä/b", "#語", "", "http://a"], ["a b", "\\\\x", "#a#b"]),
    "uri-template": (
        ["http://x/{id}", "{+a,b*}{?c:30}", "plain", "", "{/a.b}", "x{#a}"],
        ["{", "{}", "a}", "{a b}", "{a:0}", "{a*b}"],
    ),
    "json-pointer": (["", "/", "/a/b~0c~1d", "/ü//0"], ["a", "/~2", "/~", "#/a"]),
    "relative-json-pointer": (["0", "1/a~0", "10#", "2/"], ["-1", "01", "a", "#", "1#a", ""]),
}


def main():
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    for name, (valid, invalid) in CASES.items():
        assert name in checker.checkers, f"jsonschema has no checker for {name}"
        for text in valid:
            assert checker.conforms(text, name), (name, text)
        for text in invalid:
            assert not checker.conforms(text, name), (name, text)
    document = {
        "jsonschema": importlib.metadata.version("jsonschema"),
        "formats": {name: {"valid": valid, "invalid": invalid} for name, (valid, invalid) in CASES.items()},
    }
    path = Path(__file__).parent / "format_cases.json"
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
