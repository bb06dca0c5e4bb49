"""Texts on which tokenizers and detokenizers go wrong, and the text the small tokenizers are trained on."""

TRAINING = """
The lighthouse keeper counted the ships that passed before dawn, and wrote their names down in a long blue book.
Nobody had asked him to do it; he'd started in 1987 and couldn't stop. They're all in there, he said, \
they've been there since.
"Where were you?" she asked. "I wasn't here." It's the third of them, isn't it? We'll see. I'd rather not. \
I'm sure you're right.
When the storm came, the keeper's lamp was the only light for 40 miles, and 12,345 birds flew around it: \
counting them took 6.5 hours.
def count(ships, names=None):
    for index, ship in enumerate(ships):
        if ship.name in names and ship.mass >= 1000.0:
            print(f"{index}: {ship.name}")
    return {name: len(name) for name in names or []}
#include <vector>
int main() { std::vector<int> v(10, 3); for (auto& x : v) { x *= 2; } return v[0] == 6 ? 0 : 1; }
Der Leuchtturmwärter zählte die Schiffe, die vor der Dämmerung vorbeifuhren, und schrieb größere Namen in ein Buch.
El guardián del faro contó los barcos; ¿quién se lo había pedido? Nadie, según él. ¡Qué año más extraño!
Le gardien du phare comptait les bateaux à l'aube, et il écrivait leurs noms où il pouvait, même là-bas.
Смотритель маяка считал корабли, проходившие до рассвета, и записывал их имена в длинную синюю книгу.
灯台守は夜明け前に通り過ぎる船を数え、その名前を青い本に書いた。彼は毎日それを続けた。
灯塔看守人数着黎明前经过的船只,并把它们的名字写在一本蓝色的长书里。没有人要求他这样做。
등대지기는 새벽이 오기 전에 지나가는 배들을 세고 그 이름을 긴 파란 책에 적었다.
كان حارس المنارة يعد السفن التي تمر قبل الفجر ويكتب أسماءها في كتاب أزرق طويل.
שומר המגדלור ספר את הספינות שעברו לפני הזריחה וכתב את שמותיהן בספר כחול ארוך.
प्रकाशस्तंभ का रखवाला भोर से पहले गुज़रने वाले जहाज़ों को गिनता था।
The ships came back in spring 🚢🌊 and the keeper smiled 😀😀, lit the lamp 💡 and wrote: 123 ships, 4567 birds, 89 whales.
"""

FAMILY = "\U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466"

HARD = [
    "",
    " ",
    "  ",
    "a",
    "Hello, world!",
    " leading space",
    "trailing space ",
    "   three leading and three trailing   ",
    "one  two   three    four     five",
    "tab\tseparated\t\tvalues",
    "\n",
    "\n\n\n",
    "\r\n",
    "unix\nwindows\r\nold mac\rnext line\u0085line separator\u2028paragraph separator\u2029end",
    "ends with newline\n",
    " \n \n\t\n ",
    "It's we'll I'D they'VE don't 'tis ''''",
    "The keeper's lamp was the only light for 40 miles.",
    "1234567890 12,345.678 0x1F 1e-9 ½ ² ٣ ३ Ⅷ",
    "def f(x):\n    return x ** 2  # comment\n\n\nclass A:\n\tpass\n",
    "for (auto& [k, v] : m) { std::cout << k << \"\\t\" << v << '\\n'; }",
    "{\"key\": [1, 2.5e10, null, true], \"nested\": {\"a\\u00e9\": \"\\\\\"}}",
    "<div class=\"a\">&amp; <!-- x --></div>",
    "https://example.org/path?query=a%20b&c=d#fragment",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "a" * 300,
    "ab" * 150,
    " " * 64,
    "x" + " " * 33 + "y",
    "=" * 80 + "\n" + "-" * 80,
    "!?!?!?...,,,;;;:::---",
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 4,
    "naïve café Ångström straße İstanbul ǅ ﬁ ﬀ",
    "\u00e9 vs e\u0301, \u00f1 vs n\u0303, \u00c5 vs A\u030a vs \u212b",
    ("Z\u0351\u036b\u0313\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320"
     "\u034dA\u0334\u0335\u031c\u0330\u0354\u036b\u0357\u0362L\u0320\u0368\u0367\u0369\u0358G\u0334\u033b\u0348"
     "\u034d\u0354\u0339\u0311\u0357\u030e\u0305\u035b\u0301Ǫ\u0335\u0339\u033b\u031d\u0333\u0342\u030c\u030c"
     "\u0358!\u0356\u032c\u0330\u0319\u0317\u033f\u030b\u0365\u0365\u0302\u0363\u0310\u0301\u0301\u035c\u035e"),
    "\u0301combining mark first",
    "😀",
    "😀😃😄😁 mixed 😆 with text😅end",
    FAMILY,
    "x" + FAMILY + FAMILY + "y",
    "👩🏽\u200d💻 👍🏿 🏳️\u200d🌈 🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f 🇺🇳🇩🇪 1️⃣ ❤️ ☎︎",
    "你好,世界!这是一个测试。",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "한국어 텍스트와 자모 한글 ㅎㅏㄴ",
    "𠜎𠜱𠝹𠱓 㐀 豈 𓀀𓁐 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕏",
    "مرحبا بالعالم، كيف الحال؟ ١٢٣",
    "שָׁלוֹם עוֹלָם",
    "ltr \u202ertl override\u202c ltr \u2066isolate\u2069 \u200e\u200f",
    "नमस्ते दुनिया क्ष त्र ज्ञ",
    "สวัสดีชาวโลก ภาษาไทยไม่มีช่องว่าง",
    "ᠮᠣᠩᠭᠣᠯ አማርኛ ქართული ᏣᎳᎩ ᚠᚢᚦ ⠓⠑⠇⠇⠕",
    "nbsp\u00a0narrow\u202fthin\u2009em\u2003ideographic\u3000zero\u200bjoiner\u200dnon\u200cword\u2060bom\ufeff",
    "\ufeffstarts with bom",
    "nul \x00 in the middle\x00",
    "\x00",
    "".join(chr(c) for c in range(1, 32)),
    "\x7f\x80\x81\x9f\xa0\xad",
    "\x1b[31mred\x1b[0m",
    "\ufffd",
    "a\ufffdb\ufffd\ufffdc",
    "\ufffe\uffff\U0001fffe\U0010ffff\ue000\U000f0000",
    "▁already▁metaspace ▁ ▁▁",
    "ĠalreadyĠbyteĊlevel Ġ Ċ",
    "<0x41><0xE4><0xff> <0xZZ>",
    "<s>",
    "</s>",
    "a<s>b</s>c",
    " <s> spaced </s> ",
    "<unk>",
    "<|endoftext|>",
    "before<|endoftext|>after <|endoftext|> <|endoftext|><|endoftext|>",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
    "<|begin_of_text|",
    "<pad>  <mask>\t<extra>word<tool>",
    "[CLS] plain [SEP] [UNK] [MASK]",
    "don't split <|eot_id|>\n",
    "\\n is not a newline, \\u0041 neither",
    "ends in the middle of a word lightho",
    "Смотритель маяка считал корабли 123 🚢",
    "Mixed: English, русский, 中文, العربية, עברית, हिन्दी, 한국어, 日本語, ไทย, ελληνικά 🎉",
]
