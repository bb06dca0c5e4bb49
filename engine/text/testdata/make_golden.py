"""Makes the fixtures in this folder: small tokenizers, and what transformers makes of hard texts and chats with them.

    python make_golden.py        needs transformers, tokenizers and jinja2; the versions used are noted in golden.json
    python make_golden.py chats  only those of chat templates

A run replaces all fixtures together: training breaks ties in no fixed order, so that the vocabularies change a little.
"""

import datetime
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from chat_cases import CHATS, SNIPPET_MESSAGES, SNIPPETS
from differences import DIFFERENCES
from hard_texts import HARD, TRAINING

HERE = Path(__file__).parent
FOLDER = HERE / "tokenizers"
LINES = TRAINING.strip().split("\n")
NOW = datetime.datetime(2024, 7, 26, 9, 5, 7)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def train(tokenizer, size, specials, alphabet=None):
    trainer_of = {models.BPE: trainers.BpeTrainer, models.WordPiece: trainers.WordPieceTrainer,
                  models.Unigram: trainers.UnigramTrainer}
    options = {"initial_alphabet": alphabet} if alphabet else {}
    if isinstance(tokenizer.model, models.Unigram):
        options["unk_token"] = "<unk>"
    trainer = trainer_of[type(tokenizer.model)](vocab_size=size, special_tokens=specials, show_progress=False,
                                                **options)
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def save(name, tokenizer, config, extra_files=()):
    document = tokenizer if isinstance(tokenizer, dict) else json.loads(tokenizer.to_str())
    write(FOLDER / name / "tokenizer.json", document)
    write(FOLDER / name / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **config})
    for file, value in extra_files:
        write(FOLDER / name / file, value)


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return train(tokenizer, 700, ["<|endoftext|>"], pre_tokenizers.ByteLevel.alphabet())


def sentencepiece_document(size):
    """A BPE over whole words with 256 byte tokens, as converted sentencepiece models are."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    # Without the East Asian lines their characters stay outside the vocabulary, so that bytes are used in earnest.
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False,
                                  limit_alphabet=90)
    tokenizer.train_from_iterator(LINES, trainer)
    document = json.loads(tokenizer.to_str())
    old = sorted(document["model"]["vocab"], key=document["model"]["vocab"].get)
    tokens = old[:3] + [f"<0x{byte:02X}>" for byte in range(256)] + old[3:]
    document["model"].update(vocab={token: i for i, token in enumerate(tokens)}, byte_fallback=True, fuse_unk=True)
    return document


def normalizer_of(*steps):
    return {"type": "Sequence", "normalizers": list(steps)}


REPLACE_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREPEND = {"type": "Prepend", "prepend": "▁"}
REPLACE_BACK = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def bos_template(bos, bos_id):
    return {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}}}


def save_null_specials(llama2):
    """A class with special tokens of its own, of which the configuration sets one to null, and special_tokens_map.json
    another.

    Apart from these the files say what transformers rebuilds for the class, so that both split text alike.
    """
    old = sorted(llama2["model"]["vocab"], key=llama2["model"]["vocab"].get)
    model = {**llama2["model"], "unk_token": None, "vocab": {token: i for i, token in enumerate(old[1:])}}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    begin = {"id": 0, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
    document = {**llama2, "model": model, "added_tokens": [begin], "normalizer": None, "pre_tokenizer": metaspace,
                "post_processor": bos_template("<s>", 0)}
    save("null_specials", document, {"tokenizer_class": "LlamaTokenizerFast", "unk_token": None},
         [("special_tokens_map.json", {"eos_token": None})])


def make_tokenizers():
    gpt2 = byte_level()
    save("gpt2_like", gpt2, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})

    document = json.loads(gpt2.to_str())
    files = FOLDER / "gpt2_files"
    write(files / "vocab.json", document["model"]["vocab"])
    (files / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in document["model"]["merges"])
                                      + "\n", encoding="utf-8")
    write(files / "tokenizer_config.json", {"model_max_length": 1024})
    write(files / "config.json", {"model_type": "gpt2"})

    # Special tokens that only the configuration knows, a saved truncation and padding, and tokens that eat white space.
    gpt2.no_padding()
    bare = json.loads(gpt2.to_str())
    bare["added_tokens"] = []
    bare["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    bare["padding"] = {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                       "pad_type_id": 0, "pad_token": "<|endoftext|>"}
    flags = {"normalized": False, "single_word": False}
    size = len(bare["model"]["vocab"])
    save("config_specials", bare, {
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": None,
        "additional_special_tokens": ["<extra>"],
        "added_tokens_decoder": {
            str(size): {"content": "<s>", "lstrip": False, "rstrip": False, "special": True, **flags},
            str(size + 1): {"content": "</s>", "lstrip": False, "rstrip": True, "special": True, **flags},
            str(size + 2): {"content": "<mask>", "lstrip": True, "rstrip": True, "special": True, **flags},
            str(size + 3): {"content": "<tool>", "lstrip": False, "rstrip": False, "special": False, **flags},
            str(size + 4): {"content": "<pad>", "lstrip": False, "rstrip": False, "special": True, **flags}}})
    bare = dict(bare, truncation=None, padding=None)
    save("map_specials", bare, {"bos_token": "<unused>"}, [("special_tokens_map.json", {
        "bos_token": {"content": "<s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
        "eos_token": "</s>", "additional_special_tokens": ["<|eot_id|>", "<pad>"]})])

    document = sentencepiece_document(500)
    document.update(normalizer=normalizer_of(PREPEND, REPLACE_SPACE), pre_tokenizer=None,
                    post_processor=bos_template("<s>", 1),
                    decoder={"type": "Sequence",
                             "decoders": [REPLACE_BACK, {"type": "ByteFallback"}, {"type": "Fuse"}, STRIP]})
    save("llama2_like", document, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    save_null_specials(document)

    document = dict(document, normalizer=REPLACE_SPACE, post_processor=bos_template("<s>", 1),
                    decoder={"type": "Sequence",
                             "decoders": [REPLACE_BACK, {"type": "ByteFallback"}, {"type": "Fuse"}]})
    size = len(document["model"]["vocab"])
    document["added_tokens"] = document["added_tokens"] + [
        {"id": size + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": False}
        for i, content in enumerate(["\n\n", "\n\n\n", "▁▁", "<tool>"])]
    save("gemma_like", document, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})

    llama3 = Tokenizer(models.BPE(ignore_merges=True))
    words = (r"(?i:'(?:s|t|re|ve|m|ll|d))|[^\r\n\p{L}\p{N}]?\p{L}+|"
             r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    llama3.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(words), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    llama3.decoder = decoders.ByteLevel()
    train(llama3, 700, [], pre_tokenizers.ByteLevel.alphabet())
    llama3.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                               "<|eot_id|>"])
    bos = llama3.token_to_id("<|begin_of_text|>")
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", bos)])])
    save("llama3_like", llama3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"})
    (FOLDER / "llama3_like" / "chat_template.jinja").write_text(CHATS["llama3"]["jinja"], encoding="utf-8")

    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    unigram.decoder = decoders.Metaspace(prepend_scheme="first")
    train(unigram, 500, ["<pad>", "</s>", "<unk>"])
    unigram.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>",
                                                           special_tokens=[("</s>", 1)])
    save("unigram", unigram, {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"})

    bert = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bert.normalizer = normalizers.BertNormalizer(lowercase=True)
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.decoder = decoders.WordPiece()
    train(bert, 600, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    bert.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
                                                        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    save("wordpiece", bert, {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]",
                             "mask_token": "[MASK]"})

    # A decoder whose last token counts: nothing can be given out before the end.
    plain = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], end_of_word_suffix="</w>",
                                  show_progress=False)
    plain.train_from_iterator(LINES, trainer)
    save("word_suffix", plain, {"unk_token": "<unk>"})

    spaces = Tokenizer(models.WordLevel({"<unk>": 0, "in": 1, "the": 2, "beginning": 3, "é": 4, "😀": 5},
                                        unk_token="<unk>"))
    spaces.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    save("no_decoder", spaces, {"unk_token": "<unk>"})


def golden_tokenizer(name):
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / name)
    rng = random.Random(name)

    def decoded(ids, text=None):
        # null stands for the text itself.
        both = [tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
                for skip in (False, True)]
        return [None if result == text else result for result in both]

    texts = []
    for text in HARD:
        plain = tokenizer.encode(text, add_special_tokens=False, padding=False, truncation=False)
        special = tokenizer.encode(text, add_special_tokens=True, padding=False, truncation=False)
        texts.append({"ids": plain, "special_ids": None if special == plain else special,
                      "decoded": decoded(plain, text)})
    known = sorted(tokenizer.get_vocab().values())
    spread = []
    for _ in range(20):
        # Mostly few distinct ids, so that byte tokens stand next to each other.
        pool = rng.sample(known, min(len(known), rng.choice([3, 10, 50])))
        if name in ("llama2_like", "gemma_like"):
            pool += rng.sample(range(3, 259), 8)
        ids = [rng.choice(pool) for _ in range(rng.randint(1, 30))]
        spread.append({"ids": ids, "decoded": decoded(ids)})
    named = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    return {"name": name, "size": len(tokenizer), "special": named, "texts": texts, "random": spread}


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def rendered(tokenizer, messages, add_generation_prompt, template=None):
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt,
                                             chat_template=template)
        return {"text": text}
    except Exception as error:
        return {"error": str(error), "raised": type(error).__name__ == "TemplateError"}


def golden_chats():
    transformers.utils.chat_template_utils.datetime = FixedTime
    cases = []
    for name, chat in CHATS.items():
        folder = HERE / "chat" / name
        config = dict(chat["config"])
        if chat.get("in_config"):
            config["chat_template"] = chat["jinja"] if chat["in_config"] == "string" else [
                {"name": "tool_use", "template": "not this one"}, {"name": "default", "template": chat["jinja"]}]
        else:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "chat_template.jinja").write_text(chat["jinja"], encoding="utf-8")
        write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **config})
        with tempfile.TemporaryDirectory() as whole:
            shutil.copytree(folder, whole, dirs_exist_ok=True)
            shutil.copy(FOLDER / "gpt2_like" / "tokenizer.json", whole)
            tokenizer = AutoTokenizer.from_pretrained(whole)
            for messages in chat["messages"]:
                for prompt in (False, True):
                    cases.append({"folder": name, "messages": messages, "prompt": prompt,
                                  **rendered(tokenizer, messages, prompt)})
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "llama3_like")
    tokens = [{"messages": messages,
               "ids": tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True,
                                                    return_dict=False)}
              for messages in CHATS["llama3"]["messages"]]
    snippets = [{"template": source, **rendered(tokenizer, SNIPPET_MESSAGES, True, source)}
                for source in [*SNIPPETS, *DIFFERENCES]]
    for snippet in snippets:
        if snippet["template"] in DIFFERENCES:
            snippet["differs"] = DIFFERENCES[snippet["template"]]
    return {"now": NOW.isoformat(), "chats": cases, "tokens": tokens, "snippet_messages": SNIPPET_MESSAGES,
            "snippets": snippets}


def main():
    if sys.argv[1:] == ["chats"]:
        write(HERE / "golden_chat.json", golden_chats())
        return
    for folder in (FOLDER, HERE / "chat"):
        shutil.rmtree(folder, ignore_errors=True)
    make_tokenizers()
    write(HERE / "golden.json", {
        "transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "texts": HARD,
        "tokenizers_golden": [golden_tokenizer(folder.name) for folder in sorted(FOLDER.iterdir())]})
    write(HERE / "golden_chat.json", golden_chats())


if __name__ == "__main__":
    main()
