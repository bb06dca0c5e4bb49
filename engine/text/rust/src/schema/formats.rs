//! The values of `format` that can be followed, each as a regular expression for the whole text. Where readers differ
//! in what they take, it allows what all of them do.

use llguidance::derivre::RegexAst;

const FORMATS: [(&str, fn() -> RegexAst); 28] = [
    ("date-time", || dated(&format!("{DATE}[tT]{TIME}"))),
    ("date", || dated(DATE)),
    ("time", || whole(TIME)),
    ("duration", duration),
    ("email", email),
    ("hostname", hostname),
    ("ipv4", || whole(&ipv4())),
    ("ipv6", || whole(&ipv6())),
    ("ipvanyaddress", || whole(&format!("{}|{}", ipv4(), ipv6()))),
    ("uri", || whole(&uri(""))),
    ("uri-reference", || whole(&uri_reference(""))),
    ("iri", || whole(&uri(BEYOND_ASCII))),
    ("iri-reference", || whole(&uri_reference(BEYOND_ASCII))),
    ("uri-template", uri_template),
    ("json-pointer", || whole(JSON_POINTER)),
    ("relative-json-pointer", || {
        whole(&format!("(0|[1-9][0-9]?)(#|{JSON_POINTER})"))
    }),
    ("uuid", || uuid("[0-9a-fA-F]", "[0-9a-fA-F]")),
    ("uuid1", || uuid("1", "[89abAB]")),
    ("uuid3", || uuid("3", "[89abAB]")),
    ("uuid4", || uuid("4", "[89abAB]")),
    ("uuid5", || uuid("5", "[89abAB]")),
    ("byte", || whole(BASE64)),
    ("base64", || whole(BASE64)),
    ("binary", anything),
    ("password", anything),
    ("path", anything),
    ("file-path", anything),
    ("directory-path", anything),
];

/// The second line has the 29ths of February.
const DATE: &str = concat!(
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))",
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)",
);
/// Without leap seconds, which only some days have.
const TIME: &str = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([zZ]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
const JSON_POINTER: &str = "(/([^/~]|~[01])*)*";
const BASE64: &str = "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?";
/// RFC 3987's ucschar.
const BEYOND_ASCII: &str = concat!(
    r"\u{A0}-\u{D7FF}\u{F900}-\u{FDCF}\u{FDF0}-\u{FFEF}\u{10000}-\u{1FFFD}\u{20000}-\u{2FFFD}\u{30000}-\u{3FFFD}",
    r"\u{40000}-\u{4FFFD}\u{50000}-\u{5FFFD}\u{60000}-\u{6FFFD}\u{70000}-\u{7FFFD}\u{80000}-\u{8FFFD}",
    r"\u{90000}-\u{9FFFD}\u{A0000}-\u{AFFFD}\u{B0000}-\u{BFFFD}\u{C0000}-\u{CFFFD}\u{D0000}-\u{DFFFD}\u{E1000}-\u{EFFFD}",
);

pub fn is_known(name: &str) -> bool {
    FORMATS.iter().any(|(known, _)| *known == name)
}

pub fn names() -> String {
    FORMATS.map(|(name, _)| name).join(", ")
}

pub fn regex(name: &str) -> Option<RegexAst> {
    FORMATS.iter().find(|(known, _)| *known == name).map(|(_, make)| make())
}

fn whole(pattern: &str) -> RegexAst {
    RegexAst::Regex(pattern.to_string())
}

fn anything() -> RegexAst {
    whole("(?s:.*)")
}

fn but_not(all: RegexAst, pattern: &str) -> RegexAst {
    RegexAst::And(vec![all, RegexAst::Not(Box::new(whole(pattern)))])
}

/// Many calendars begin with the year 1.
fn dated(pattern: &str) -> RegexAst {
    but_not(whole(pattern), "(?s:0000.*)")
}

/// RFC 3339's appendix A.
fn duration() -> RegexAst {
    let n = "[0-9]{1,9}";
    let time = format!("T({n}H({n}M({n}S)?)?|{n}M({n}S)?|{n}S)");
    whole(&format!(
        "P(({n}Y({n}M({n}D)?)?|{n}M({n}D)?|{n}D)({time})?|{time}|{n}W)"
    ))
}

fn hostname() -> RegexAst {
    // Of 1 to 63 characters, but not like xn--: that is an encoded name, and few are right.
    let (a, h) = ("[a-zA-Z0-9]", "[a-zA-Z0-9-]");
    let label = format!("({a}|{a}{a}|{a}{h}{a}|{a}{h}({a}|-){a}|{a}{h}({a}{h}|-{a}){h}{{0,58}}{a})");
    let labels = whole(&format!(r"{label}(\.{label})*"));
    RegexAst::And(vec![labels, whole("(?s:.{1,253})")])
}

fn email() -> RegexAst {
    let word = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+";
    let local = RegexAst::And(vec![whole(&format!(r"{word}(\.{word})*")), whole("(?s:.{1,64})")]);
    RegexAst::Concat(vec![local, RegexAst::Byte(b'@'), hostname()])
}

fn ipv4() -> String {
    let byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    format!(r"{byte}(\.{byte}){{3}}")
}

/// RFC 3986's IPv6address.
fn ipv6() -> String {
    let h = "[0-9a-fA-F]{1,4}";
    let last = format!("({h}:{h}|{})", ipv4());
    let mut forms = vec![format!("({h}:){{6}}{last}"), format!("::({h}:){{5}}{last}")];
    for before in 0..7 {
        let behind = match before {
            0..=4 => format!("({h}:){{{}}}{last}", 4 - before),
            5 => h.to_string(),
            _ => String::new(),
        };
        forms.push(format!("(({h}:){{0,{before}}}{h})?::{behind}"));
    }
    format!("({})", forms.join("|"))
}

fn uuid(version: &str, variant: &str) -> RegexAst {
    let h = "[0-9a-fA-F]";
    whole(&format!(
        "{h}{{8}}-{h}{{4}}-{version}{h}{{3}}-{variant}{h}{{3}}-{h}{{12}}"
    ))
}

/// The parts of RFC 3986, or of RFC 3987 where `more` has characters beyond ASCII.
struct UriParts {
    authority: String,
    character: String,
    end: String,
}

fn uri_parts(more: &str) -> UriParts {
    let plain = format!(r"A-Za-z0-9._~!$&'()*+,;={more}\-");
    let encoded = "%[0-9a-fA-F]{2}";
    let address = format!(r"\[({}|[vV][0-9a-fA-F]+\.[A-Za-z0-9._~!$&'()*+,;=:\-]+)\]", ipv6());
    let authority = format!("//(([{plain}:]|{encoded})*@)?({address}|([{plain}]|{encoded})*)(:[0-9]{{0,5}})?");
    let character = format!("([{plain}:@]|{encoded})");
    let end = format!(r"(\?({character}|[/?])*)?(#({character}|[/?])*)?");
    UriParts {
        authority,
        character,
        end,
    }
}

fn uri(more: &str) -> String {
    let UriParts {
        authority,
        character,
        end,
    } = uri_parts(more);
    let path = format!("(/{character}*)*");
    format!(r"[A-Za-z][A-Za-z0-9+.\-]*:({authority}{path}|/?({character}+{path})?){end}")
}

fn uri_reference(more: &str) -> String {
    let UriParts {
        authority,
        character,
        end,
    } = uri_parts(more);
    let path = format!("(/{character}*)*");
    let without_colon = format!(r"([A-Za-z0-9._~!$&'()*+,;=@{more}\-]|%[0-9a-fA-F]{{2}})+{path}");
    let relative = format!("({authority}{path}|/({character}+{path})?|({without_colon})?){end}");
    format!("({}|{relative})", uri(more))
}

/// RFC 6570, without encoded names.
fn uri_template() -> RegexAst {
    let name = r"[A-Za-z0-9_](\.?[A-Za-z0-9_])*(:[1-9][0-9]{0,2}|\*)?";
    let literal = format!(r"[!#$&(-;=?-\[\]_a-z~{BEYOND_ASCII}]|%[0-9a-fA-F]{{2}}");
    whole(&format!(r"({literal}|\{{[+#./;?&]?{name}(,{name})*\}})*"))
}
