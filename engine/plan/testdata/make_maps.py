"""Writes maps.json: device maps that transformers makes of small models on the meta device.

    python make_maps.py [--cases N] [--seed S] [--output FILE]

Needs torch, transformers 5.23 and accelerate. field_policy_test.cc reproduces every map from our own module trees.
Sizes are chosen so that blocks, embeddings and heads are large and small in turn; budgets are fractions of the model,
zeros included.
"""

import argparse
import json
import pathlib
import random

import torch
import transformers
from transformers.integrations.accelerate import _get_device_map

LLAMA = dict(model_type="llama", vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False)
GPT2 = dict(model_type="gpt2", vocab_size=96, n_embd=32, n_layer=4, n_head=4, n_positions=64, tie_word_embeddings=True)
QWEN3 = LLAMA | dict(model_type="qwen3", head_dim=12)
MIXTRAL = LLAMA | dict(model_type="mixtral", num_local_experts=4, num_experts_per_tok=2)
QWEN3_MOE = QWEN3 | dict(model_type="qwen3_moe", num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24)
MINIMAX_M2 = LLAMA | dict(model_type="minimax_m2", head_dim=12, rotary_dim=6, num_local_experts=6,
                          num_experts_per_tok=2)
MODELS = [
    LLAMA,
    LLAMA | dict(tie_word_embeddings=True),
    LLAMA | dict(vocab_size=2048, tie_word_embeddings=True),
    LLAMA | dict(vocab_size=2048, num_hidden_layers=7),
    LLAMA | dict(num_hidden_layers=9, intermediate_size=200, attention_bias=True, mlp_bias=True),
    LLAMA | dict(num_hidden_layers=1, vocab_size=700, tie_word_embeddings=True),
    GPT2,
    GPT2 | dict(tie_word_embeddings=False, vocab_size=500),
    GPT2 | dict(vocab_size=3000, n_layer=6),
    GPT2 | dict(n_positions=1024, n_layer=3, n_embd=48, vocab_size=1024),
    QWEN3 | dict(vocab_size=1024, num_hidden_layers=5),
    MIXTRAL,
    QWEN3_MOE | dict(num_hidden_layers=6, mlp_only_layers=[0, 1], tie_word_embeddings=True),
    LLAMA | dict(model_type="mistral", vocab_size=700),
    LLAMA | dict(model_type="qwen2", num_hidden_layers=6, tie_word_embeddings=True),
    MINIMAX_M2,
    MINIMAX_M2 | dict(num_hidden_layers=7, vocab_size=1024, tie_word_embeddings=True),
]
STRATEGIES = ["balanced", "balanced_low_0", "sequential"]


def make_model(config, dtype):
    values = dict(config)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(values.pop("model_type"), **values), dtype=dtype)
    model.tie_weights()
    return model


def bytes_of(module):
    seen = {id(t): t for t in list(module.parameters()) + list(module.buffers())}
    return sum(t.numel() * t.element_size() for t in seen.values())


def fixed_budgets(total, block, embedding):
    """The shapes worth naming; random ones come on top."""
    yield {0: 2 * total}
    yield {0: total}
    yield {0: total + block}
    yield {0: total // 2, "cpu": 2 * total}
    yield {0: total // 2}
    yield {0: block // 2, "cpu": total}
    yield {"cpu": 2 * total}
    yield {"cpu": total // 2}
    yield {0: 0, 1: 2 * total}
    yield {0: 0, 1: total, 2: total}
    yield {0: 0, "cpu": 2 * total}
    yield {0: total, 1: 0}
    yield {1: total, 3: total}
    for n in (2, 3, 4):
        for factor in (0.8, 1.0, 1.2, 1.6, 4.0):
            yield {i: int(total * factor / n) for i in range(n)}
        yield {i: int(total / n) for i in range(n)} | {"cpu": total}
        yield {i: block + block // 3 for i in range(n)} | {"cpu": 2 * block}
        yield {i: max(1, embedding - 1) for i in range(n)} | {"cpu": total}
        yield {i: int(total * (i + 1) / n) for i in range(n)}
        yield {i: int(total * (n - i) / n) for i in range(n)}
        yield {i: 2 * block for i in range(n)} | {n: 4 * total}


def random_budgets(rng, total, block):
    gpus = sorted(rng.sample(range(5), rng.randint(1, 4)))
    sizes = [0, block // 2, block, 2 * block, total // 8, total // 4, total // 3, total // 2, total, 2 * total]
    budgets = {i: max(0, rng.choice(sizes) + rng.choice([0, 0, 1, -1, block // 3])) for i in gpus}
    if rng.random() < 0.5:
        budgets["cpu"] = rng.choice(sizes) + 1
    return budgets


def skip(strategy, budgets):
    """transformers finds the other GPUs of balanced_low_0 by counting, which is right for ids 0..n-1 only."""
    live = [i for i in budgets if i != "cpu" and budgets[i] > 0]
    return (strategy == "balanced_low_0" and len(live) > 1 and live != list(range(len(live)))
            and live != list(range(1, len(live) + 1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5, help="random budgets for each model")
    parser.add_argument("--keep", type=float, default=0.1, help="share of the named budgets' cases to keep")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent / "maps.json")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    cases = []
    for index, config in enumerate(MODELS):
        for dtype in ("fp32", "bf16"):
            model = make_model(config, {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype])
            total = bytes_of(model)
            base = model.get_decoder()
            block = bytes_of((base.layers if hasattr(base, "layers") else base.h)[0])
            embedding = bytes_of(model.get_input_embeddings())
            budgets = [b for b in fixed_budgets(total, block, embedding)]
            budgets = ([b for b in budgets if rng.random() < args.keep]
                       + [random_budgets(rng, total, block) for _ in range(args.cases)])
            for budget in budgets:
                strategy = rng.choice(STRATEGIES)
                if skip(strategy, budget):
                    continue
                try:
                    device_map = _get_device_map(model, strategy, dict(budget), None)
                except KeyError:
                    # balanced_low_0 without a GPU 0
                    assert strategy == "balanced_low_0" and 0 not in budget
                    device_map = None
                cases.append({
                    "model": index, "dtype": dtype, "strategy": strategy, "bytes": total,
                    "max_memory": {str(k): v for k, v in budget.items()},
                    "map": device_map and {k: str(v) for k, v in device_map.items()},
                })
    with open(args.output, "w") as out:
        out.write('{"transformers": "%s",\n"models": [\n' % transformers.__version__)
        out.write(",\n".join(json.dumps(m) for m in MODELS))
        out.write('\n],\n"cases": [\n')
        out.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        out.write("\n]}\n")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
