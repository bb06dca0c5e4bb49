# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.11.0", "tokenizers==0.23.3", "safetensors==0.8.0"]
# ///
"""Trains the bundled model, models/kjv: a small Llama on the King James Bible. README.md beside the weights tells the
whole story.

    sudo apt-get install bible-kjv bible-kjv-text
    python models/train.py --output models/kjv
"""

import argparse
import json
import math
import os
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import text
from llama import Llama, sample

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": text.BEGIN,
    "eos_token_id": [text.END_OF_TEXT, text.END],
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 704,
    "max_position_embeddings": 2048,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 4096,
}
TOKENIZER_CONFIG = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<|begin|>",
    "chat_template": text.CHAT_TEMPLATE,
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|end_of_text|>",
    "model_max_length": CONFIG["max_position_embeddings"],
    "pad_token": "<|end_of_text|>",
    "tokenizer_class": "PreTrainedTokenizerFast",
}
GENERATION_CONFIG = {
    "bos_token_id": text.BEGIN,
    "eos_token_id": [text.END_OF_TEXT, text.END],
    "pad_token_id": text.END_OF_TEXT,
    "do_sample": True,
    "temperature": 0.8,
    "top_p": 0.95,
}
SHORT_CONTEXT, LONG_CONTEXT, BATCH_TOKENS = 512, CONFIG["max_position_embeddings"], 4096
# The share of the training after which windows have the full context, so that every position is trained.
LONG_AFTER = 0.85
WARM_UP, DECAY_AFTER, LEARNING_RATE, WEIGHT_DECAY, DROPOUT, CHAT_SHARE = 0.02, 0.3, 3e-3, 0.1, 0.1, 0.1


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def windows(documents, context, random_source):
    """An endless stream of [context + 1] token ids, epoch after epoch. A window starts with <|begin|> and then, where a
    verse starts."""
    while True:
        stream = documents.epoch(random_source)
        starts = list(range(random_source.randrange(context), len(stream) - context, context))
        random_source.shuffle(starts)
        for start in starts:
            while start > 0 and stream[start - 1] not in (documents.newline, text.BEGIN):
                start -= 1
            if start > 0 and stream[start - 1] == text.BEGIN:
                start -= 1
            window = stream[start:start + context + 1]
            yield window if window[0] == text.BEGIN else [text.BEGIN] + window[:-1]


@torch.no_grad()
def evaluate(model, tokenizer, chapters):
    """The losses of whole chapters, each a document of its own after one <|begin|>: [{title, tokens, bytes, nll in
    nats}]."""
    results = []
    for chapter in chapters:
        plain = text.chapter_text(chapter)
        ids = torch.tensor([tokenizer.encode(plain).ids])
        logits = model(ids[:, :-1])[0].float()
        results.append({"title": chapter[0], "tokens": ids.shape[1] - 1, "bytes": len(plain.encode()),
                        "nll": F.cross_entropy(logits, ids[0, 1:], reduction="sum").item()})
    return results


def bits_per_byte(results):
    return sum(result["nll"] for result in results) / math.log(2) / sum(result["bytes"] for result in results)


def save_weights(model, path):
    tensors = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    os.replace(partial, path)


def load_weights(path, dtype):
    model = Llama(CONFIG).eval()
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in load_file(path).items()})
    return model.to(dtype)


def train(arguments, tokenizer, parts):
    model = Llama(CONFIG, DROPOUT)
    documents = text.Documents(tokenizer, parts["train"], CHAT_SHARE)
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    sources = {context: windows(documents, context, random.Random(arguments.seed))
               for context in (SHORT_CONTEXT, LONG_CONTEXT)}
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {documents.count:,} tokens of text", flush=True)

    started = last_print = last_check = time.monotonic()
    step, best, running = 0, math.inf, None
    while True:
        seconds = time.monotonic() - started
        progress = max(step / arguments.steps, seconds / 60 / arguments.minutes)
        if progress >= 1 or time.monotonic() - last_check > 60 * arguments.check_minutes:
            model.eval()
            validation = bits_per_byte(evaluate(model, tokenizer, parts["validation"]))
            model.train()
            print(f"step {step}: validation {validation:.4f} bits/byte{', saved' if validation < best else ''}",
                  flush=True)
            if validation < best:
                best = validation
                save_weights(model, arguments.output / "model.safetensors")
            last_check = time.monotonic()
        if progress >= 1:
            return {"steps": step, "minutes": round(seconds / 60, 1), "tokens": step * BATCH_TOKENS,
                    "epochs": round(step * BATCH_TOKENS / (documents.count + documents.chat_tokens), 2),
                    "validation_bits_per_byte": round(best, 4)}

        rate = min(1, progress / WARM_UP, (1 - progress) / (1 - DECAY_AFTER))
        context = LONG_CONTEXT if progress > LONG_AFTER else SHORT_CONTEXT
        batch = torch.tensor([next(sources[context]) for _ in range(BATCH_TOKENS // context)])
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * max(rate, 1e-3)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        if time.monotonic() - last_print > 20:
            last_print = time.monotonic()
            seconds = last_print - started
            progress = max(step / arguments.steps, seconds / 60 / arguments.minutes)
            print(f"step {step} loss {running:.4f} rate {rate:.3f} {step * BATCH_TOKENS / seconds:,.0f} tokens/s, "
                  f"{seconds * (1 / progress - 1) / 60:.1f} minutes left", flush=True)


def report(folder, tokenizer, parts, training):
    """Writes the held-out text and the losses of the saved weights on it, computed in fp32 and in bf16."""
    heldout = parts["heldout"]
    (folder / "heldout.txt").write_text("\n\n".join(map(text.chapter_text, heldout)) + "\n")
    losses = {name: evaluate(load_weights(folder / "model.safetensors", dtype), tokenizer, heldout)
              for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    tokens = sum(row["tokens"] for row in losses["fp32"])
    totals = {name: {"nll_per_token": sum(row["nll"] for row in rows) / tokens, "bits_per_byte": bits_per_byte(rows)}
              for name, rows in losses.items()}
    write_json(folder / "heldout.json", {
        "protocol": "heldout.txt is split at blank lines into chapters. Each chapter is its own sequence: the token "
                    "<|begin|> (id 0, which the tokenizer adds), then the chapter's tokens. Every token after "
                    "<|begin|> is scored given all before it, none is added at the end. nll is in nats; bits_per_byte "
                    "is the sum of nll over ln 2 over the UTF-8 bytes of the chapters, without the blank lines "
                    "between them and the file's last newline. fp32 and bf16 name the arithmetic; the weights are the "
                    "stored bf16 ones in both, and logits are widened to fp32 before the log-softmax.",
        "tokens": tokens,
        "bytes": sum(row["bytes"] for row in losses["fp32"]),
        "context": max(row["tokens"] for row in losses["fp32"]),
        "bits_per_byte": totals["bf16"]["bits_per_byte"],
        "nll_per_token": totals["bf16"]["nll_per_token"],
        "fp32": totals["fp32"],
        "bf16": totals["bf16"],
        "training": training,
        "chapters": [{"title": fp32["title"], "tokens": fp32["tokens"], "bytes": fp32["bytes"], "nll_fp32": fp32["nll"],
                      "nll_bf16": bf16["nll"]} for fp32, bf16 in zip(losses["fp32"], losses["bf16"])],
    })
    print(json.dumps(totals, indent=2))
    model = load_weights(folder / "model.safetensors", torch.float32)
    for prompt in ("In the beginning", "And David", "<|user|>Tell me of Moses.<|end|><|assistant|>",
                   "<|user|>Hello<|end|><|assistant|>"):
        for temperature in (0, 0.8):
            ids = tokenizer.encode(prompt).ids
            output = sample(model, ids, 100, temperature, [text.END_OF_TEXT, text.END])
            print(f"--- temperature {temperature}: {prompt}{tokenizer.decode(output)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the model's folder")
    parser.add_argument("--steps", type=int, default=2400, help="optimizer steps of 4,096 tokens")
    parser.add_argument("--minutes", type=float, default=55,
                        help="end sooner, the schedule squeezed, when the steps would take longer")
    parser.add_argument("--check-minutes", type=float, default=4,
                        help="time between validations; the best weights are kept")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1611)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)

    parts = text.split(text.read_chapters())
    print({name: f"{len(part)} chapters, {sum(len(text.chapter_text(chapter)) for chapter in part):,} bytes"
           for name, part in parts.items()})
    tokenizer = text.train_tokenizer(parts["train"], CONFIG["vocab_size"])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    write_json(folder / "generation_config.json", GENERATION_CONFIG)
    write_json(folder / "config.json", CONFIG)
    training = train(arguments, tokenizer, parts)
    report(folder, tokenizer, parts, training)


if __name__ == "__main__":
    main()
