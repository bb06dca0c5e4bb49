"""Makes golden_folders.json: what transformers makes of tokenizer folders of many kinds, above all older ones.

    python make_folders.py       needs transformers; reads the fixtures that make_golden.py made

A grid of class x files x added tokens x flags. Each folder is a set of files, some of them those of a fixture; outcomes
that many folders share are stored once.
"""

import itertools
import json
import tempfile
from pathlib import Path

import transformers
from transformers import AutoTokenizer

HERE = Path(__file__).parent
FOLDER = HERE / "tokenizers"
TEXTS = ["", "hello ships", " the<pad> keeper", "a<mark>b <mark> c",
         "x<s> y</s><|endoftext|>z", "<extra>ABC<extra> d", "Grüße\n<pad><mark>"]
FLAGS = {
    "plain": {}, "split": {"split_special_tokens": True}, "prefix": {"add_prefix_space": True},
    "no_prefix": {"add_prefix_space": False}, "both": {"split_special_tokens": True, "add_prefix_space": True},
    "bos": {"add_bos_token": True, "bos_token": "<s>"},
    "bos_eos": {"add_bos_token": True, "add_eos_token": True, "add_prefix_space": True},
}
CLASSES = {
    "gpt2": {"tokenizer_class": "GPT2Tokenizer"}, "gpt2_fast": {"tokenizer_class": "GPT2TokenizerFast"},
    "unnamed_gpt2": {}, "qwen2": {"tokenizer_class": "Qwen2Tokenizer"},
    "generic": {"tokenizer_class": "PreTrainedTokenizerFast"}, "llama": {"tokenizer_class": "LlamaTokenizerFast"},
}


def read(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def fixture(name):
    return {"fixture": name}


def token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, **flags}


def added(size, first):
    """The ways in which a folder tells of added tokens; `size` is the first free id, `first` the token that has it."""
    pad, mark = (size, size + 1) if first == "<pad>" else (size + 1, size)
    two = {"<pad>": pad, "<mark>": mark}
    decoder = {str(pad): token("<pad>", special=True), str(mark): token("<mark>", special=False, lstrip=True)}
    return {
        "none": {},
        "file": {"added_tokens.json": two},
        "file_named": {"added_tokens.json": two, "tokenizer_config.json": {"pad_token": "<pad>"}},
        "file_map": {"added_tokens.json": two,
                     "special_tokens_map.json": {"pad_token": "<pad>",
                                                 "additional_special_tokens": ["<mark>", "<extra>"]}},
        "file_extra": {"added_tokens.json": two,
                       "tokenizer_config.json": {"additional_special_tokens": ["<mark>"], "pad_token": "<pad>"}},
        "file_reversed": {"added_tokens.json": dict(reversed(two.items()))},
        "file_gap": {"added_tokens.json": {"<pad>": 3 * pad - 2 * size + 3, "<mark>": 3 * mark - 2 * size + 3}},
        "file_known": {"added_tokens.json": {"<mark>": size, "he": 260, "<pad>": size + 1}},
        "map": {"special_tokens_map.json": {"bos_token": token("<s>", rstrip=True),
                                            "eos_token": "</s>", "pad_token": "<pad>"}},
        "map_extra": {"tokenizer_config.json": {"additional_special_tokens": ["<mark>"]},
                      "special_tokens_map.json": {"additional_special_tokens": ["<extra>"],
                                                  "extra_special_tokens": ["<pad>"]}},
        "decoder": {"tokenizer_config.json": {"added_tokens_decoder": decoder, "pad_token": "<pad>"}},
        "decoder_and_file": {"tokenizer_config.json": {"added_tokens_decoder": decoder},
                             "added_tokens.json": {"<extra>": size, "<pad>": size + 1},
                             "special_tokens_map.json": {"mask_token": "<mark>"}},
        "decoder_named": {"tokenizer_config.json": {"added_tokens_decoder": decoder, "mask_token": "<mark>",
                                                    "extra_special_tokens": ["<mark>", "<extra>"]}},
        "named": {"tokenizer_config.json": {"pad_token": "<pad>", "mark_token": "<mark>",
                                            "extra_special_tokens": {"more_token": "<extra>"}}},
    }


def files_of(base, document):
    """The files that a folder of this base may have, by name."""
    if base == "llama":
        return {"json": {"tokenizer.json": document}}
    pair = {"vocab.json": fixture("gpt2_files/vocab.json"), "merges.txt": fixture("gpt2_files/merges.txt")}
    return {"pair": pair, "json": {"tokenizer.json": document}, "all": {**pair, "tokenizer.json": document}}


def documents():
    gpt2 = read("gpt2_like/tokenizer.json")
    gpt2["added_tokens"] = []
    qwen2 = json.loads(json.dumps(gpt2))
    words = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
             r"\s*[\r\n]+|\s+(?!\S)|\s+")
    qwen2["normalizer"] = {"type": "NFC"}
    qwen2["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
    prefixed = json.loads(json.dumps(gpt2))
    prefixed["pre_tokenizer"]["add_prefix_space"] = True
    marked = json.loads(json.dumps(gpt2))
    marked["added_tokens"] = [{"id": len(gpt2["model"]["vocab"]), **token("<mark>", special=False)}]
    return {"gpt2": gpt2, "prefixed": prefixed, "marked": marked, "qwen2": qwen2,
            "llama": read("null_specials/tokenizer.json")}


def merged(*parts):
    files = {}
    for part in parts:
        for name, content in part.items():
            both = isinstance(content, dict) and isinstance(files.get(name), dict)
            files[name] = {**files[name], **content} if both else content
    return files


def cases(bases):
    for name, config in CLASSES.items():
        kinds = {"llama": ["llama"], "qwen2": ["qwen2"]}.get(name, ["gpt2", "prefixed", "marked"])
        for kind in kinds:
            # Files that contradict tokenizer.json only for the class that is taken whole from it.
            first = "<pad>" if kind != "marked" or name == "generic" else "<mark>"
            ways = added(len(bases[kind]["model"]["vocab"]), first)
            shapes = files_of(name, {"document": kind})
            grid = itertools.product(shapes.items(), ways.items(), FLAGS.items())
            for (shape, files), (how, extra), (flag, flags) in grid:
                if shape == "pair" and kind != kinds[0]:
                    continue
                # Each way of adding with all flags only for one kind of file; the rest would be more of the same.
                if kind != kinds[0] and flag not in ("plain", "both"):
                    continue
                model = {"config.json": {"model_type": "gpt2"}} if name == "unnamed_gpt2" else {}
                configured = {"tokenizer_config.json": {**config, **flags}}
                yield f"{name}/{kind}/{shape}/{how}/{flag}", merged(files, model, configured, extra)


def text_of(content, bases):
    if "fixture" in content:
        return (FOLDER / content["fixture"]).read_text(encoding="utf-8")
    return json.dumps(bases[content["document"]] if "document" in content else content)


def outcome(files, bases):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(text_of(content, bases), encoding="utf-8")
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except Exception as error:
            return {"error": type(error).__name__}
    ids = [tokenizer.encode(text, add_special_tokens=True) for text in TEXTS]
    bare = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    seen = sorted({i for row in bare for i in row})
    special = sorted(i for i in tokenizer.get_vocab().values()
                     if tokenizer.decode([i]) and not tokenizer.decode([i], skip_special_tokens=True))
    return {"size": len(tokenizer), "special": special, "ids": ids, "bare": None if bare == ids else bare,
            "skipped": tokenizer.decode(seen, skip_special_tokens=True)}


def main():
    bases = documents()
    outcomes, contents, listed = {}, {}, []
    for name, files in cases(bases):
        outcome_key = json.dumps(outcome(files, bases), ensure_ascii=False)
        keys = {file: json.dumps(content, ensure_ascii=False) for file, content in files.items()}
        listed.append({"name": name,
                       "files": {file: contents.setdefault(key, len(contents)) for file, key in keys.items()},
                       "outcome": outcomes.setdefault(outcome_key, len(outcomes))})
    golden = {"transformers": transformers.__version__, "documents": bases, "texts": TEXTS,
              "contents": [json.loads(key) for key in contents],
              "outcomes": [json.loads(key) for key in outcomes], "cases": listed}
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n"
    (HERE / "golden_folders.json").write_text(text, encoding="utf-8")
    errors = sum("error" in json.loads(key) for key in outcomes)
    print(len(listed), "folders,", len(outcomes), "outcomes,", errors, "of them errors")


if __name__ == "__main__":
    main()
