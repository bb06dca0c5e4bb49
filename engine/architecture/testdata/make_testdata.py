#!/usr/bin/env python3
"""Writes modules.json and rope.json beside this file: what transformers makes of some configs, for the tests here.

modules.json: [{config, modules: [[path, class, block, [[parameter, shape, "parameter" | "buffer" | tied source]]]]}];
experts, which transformers 5 stacks, one by one under their published names
rope.json: [{name, config, inv_freq, attention_factor, at: {length: inv_freq}}], floats exact to the last bit of float32

Needs torch and transformers (made with 5.23.0 and 2.11.0). Takes a few seconds; nothing is downloaded.
"""
import copy
import json
import pathlib

import torch
from transformers import (AutoModelForCausalLM, GPT2Config, LlamaConfig, MiniMaxM2Config, MistralConfig, MixtralConfig,
                          Qwen2Config, Qwen3Config, Qwen3MoeConfig)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

HERE = pathlib.Path(__file__).parent
CLASSES = {c.model_type: c for c in (GPT2Config, LlamaConfig, MiniMaxM2Config, MistralConfig, MixtralConfig,
                                     Qwen2Config, Qwen3Config, Qwen3MoeConfig)}

LLAMA = dict(model_type="llama", vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128)
GPT2 = dict(model_type="gpt2", vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64)
MISTRAL = LLAMA | dict(model_type="mistral")
QWEN2 = LLAMA | dict(model_type="qwen2")
QWEN3 = LLAMA | dict(model_type="qwen3", head_dim=12)
MIXTRAL = LLAMA | dict(model_type="mixtral", num_local_experts=3, num_experts_per_tok=2)
QWEN3_MOE = QWEN3 | dict(model_type="qwen3_moe", num_experts=5, num_experts_per_tok=2, moe_intermediate_size=20)
MINIMAX_M2 = LLAMA | dict(model_type="minimax_m2", num_local_experts=4, num_experts_per_tok=2, head_dim=12,
                          rotary_dim=6)
MODULES = [
    LLAMA,
    LLAMA | dict(attention_bias=True, mlp_bias=True, head_dim=12, tie_word_embeddings=True, hidden_act="gelu"),
    LLAMA | dict(num_key_value_heads=None, hidden_act="relu",
                 rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=10000.0)),
    LLAMA | dict(hidden_act="gelu_pytorch_tanh"),
    GPT2,
    GPT2 | dict(n_inner=40, activation_function="gelu_fast", tie_word_embeddings=False),
    GPT2 | dict(activation_function="swish", num_hidden_layers=1, n_layer=1),
    MISTRAL,
    QWEN2,
    QWEN3,
    QWEN3 | dict(attention_bias=True, tie_word_embeddings=True),
    MIXTRAL,
    QWEN3_MOE,
    QWEN3_MOE | dict(attention_bias=True, num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3]),
    MINIMAX_M2,
]
# In an expert, of the published names: gate, up, down.
EXPERTS = {"mixtral": ("w1", "w3", "w2"), "minimax_m2": ("w1", "w3", "w2"),
           "qwen3_moe": ("gate_proj", "up_proj", "down_proj")}


def modules_of(model):
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    rows = []
    for path, module in model.named_modules():
        held = []
        for name, p in module.named_parameters(recurse=False, remove_duplicate=False):
            full = f"{path}.{name}" if path else name
            held.append([name, list(p.shape), tied.get(full, "parameter")])
        for name, b in module.named_buffers(recurse=False):
            held.append([name, list(b.shape), "buffer"])
        rows.append([path, type(module).__name__, type(module).__name__ in model._no_split_modules, held])
    return rows


def one_by_one(rows, model_type):
    """The rows with every stack of experts taken apart, and the gate before them."""
    gate, up, down = EXPERTS[model_type]
    block = "mlp" if model_type == "qwen3_moe" else "block_sparse_moe"
    apart, gates = [], {path: row for row in rows if (path := row[0]).endswith(".mlp.gate")}
    for path, kind, is_block, held in rows:
        if path in gates:
            continue
        gate_row = gates.get(f"{path}.gate")
        path = path.replace(".mlp", f".{block}")
        if not kind.endswith("Experts"):
            apart.append([path, kind, is_block, held])
            if gate_row:
                apart.append([f"{path}.gate", *gate_row[1:]])
            continue
        apart.append([path, kind, is_block, []])
        (_, (count, both, hidden), _), (_, (_, _, width), _) = held
        assert both == 2 * width
        for e in range(count):
            apart.append([f"{path}.{e}", kind.removesuffix("Experts") + "MLP", False, []])
            for name, shape in ((gate, [width, hidden]), (up, [width, hidden]), (down, [hidden, width])):
                apart.append([f"{path}.{e}.{name}", "Linear", False, [["weight", shape, "parameter"]]])
    return apart


def make_modules():
    cases = []
    for config in MODULES:
        kwargs = {k: v for k, v in config.items() if k != "model_type"}
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(CLASSES[config["model_type"]](**copy.deepcopy(kwargs)))
        rows = modules_of(model)
        if config["model_type"] in EXPERTS:
            rows = one_by_one(rows, config["model_type"])
        cases.append({"config": config, "modules": rows})
    return cases


def sizes(head_dim=64, positions=2048, theta=None, **more):
    base = dict(model_type="llama", vocab_size=96, hidden_size=head_dim * 2, intermediate_size=48, num_hidden_layers=1,
                num_attention_heads=2, max_position_embeddings=positions)
    return base | ({} if theta is None else {"rope_theta": theta}) | more


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
ROPE = {
    "default": sizes(),
    "default, theta at the top": sizes(128, theta=500000.0),
    "default, new spelling": sizes(rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
    "default, theta inside goes first": sizes(theta=500000.0,
                                              rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
    "default, head_dim given": sizes(head_dim=64, theta=10000) | dict(head_dim=24),
    "default, theta not a float32": sizes(theta=12345.678901),
    "linear, old": sizes(theta=10000.0, rope_scaling=dict(type="linear", factor=4.0)),
    "linear, new": sizes(rope_parameters=dict(rope_type="linear", factor=2.7, rope_theta=25000.0)),
    "linear, both type keys": sizes(rope_scaling=dict(type="yarn", rope_type="linear", factor=3)),
    "dynamic, old": sizes(positions=256, rope_scaling=dict(type="dynamic", factor=2.0)),
    "dynamic, new": sizes(128, positions=512,
                          rope_parameters=dict(rope_type="dynamic", factor=3.3, rope_theta=500000.0)),
    "llama3, old": sizes(128, positions=131072, theta=500000.0, rope_scaling=LLAMA3 | dict(rope_type="llama3")),
    "llama3, new": sizes(64, positions=131072,
                         rope_parameters=LLAMA3 | dict(rope_type="llama3", rope_theta=500000.0, factor=32.0)),
    "llama3, no original": sizes(64, positions=4096, rope_parameters=dict(
        rope_type="llama3", rope_theta=10000.0, factor=2.0, low_freq_factor=1.0, high_freq_factor=4.0)),
    "llama3, original at the top": sizes(64, positions=16384, original_max_position_embeddings=1024,
                                         rope_parameters=LLAMA3 | dict(rope_type="llama3", rope_theta=10000.0)),
    "yarn": sizes(128, positions=65536, theta=1000000.0,
                  rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16384)),
    "yarn, factor 1": sizes(rope_parameters=dict(rope_type="yarn", factor=1.0, rope_theta=10000.0)),
    "yarn, no original": sizes(positions=4096, rope_scaling=dict(type="yarn", factor=2.5)),
    "yarn, null factor": sizes(positions=163840, rope_parameters=dict(
        rope_type="yarn", factor=None, rope_theta=10000.0, original_max_position_embeddings=4096)),
    "yarn, mscale": sizes(positions=163840, rope_parameters=dict(
        rope_type="yarn", factor=40.0, rope_theta=10000.0, original_max_position_embeddings=4096, mscale=0.707,
        mscale_all_dim=1.0)),
    "yarn, mscale alone": sizes(positions=163840, rope_parameters=dict(
        rope_type="yarn", factor=40.0, rope_theta=10000.0, original_max_position_embeddings=4096, mscale=0.707)),
    "yarn, attention_factor": sizes(positions=8192, rope_parameters=dict(
        rope_type="yarn", factor=8.0, rope_theta=10000.0, original_max_position_embeddings=1024,
        attention_factor=1.25)),
    "yarn, betas": sizes(positions=8192, rope_parameters=dict(
        rope_type="yarn", factor=8.0, rope_theta=10000.0, original_max_position_embeddings=1024, beta_fast=16,
        beta_slow=2)),
    "yarn, not truncated": sizes(positions=131072, rope_parameters=dict(
        rope_type="yarn", factor=32.0, rope_theta=150000.0, original_max_position_embeddings=4096, truncate=False)),
    "longrope": sizes(16, positions=1024, theta=20000.0, rope_scaling=dict(
        rope_type="longrope", short_factor=[1 + i / 10 for i in range(8)], long_factor=[2.7 + i for i in range(8)],
        original_max_position_embeddings=64)),
    "longrope, original at the top": sizes(8, positions=512, original_max_position_embeddings=128, rope_parameters=dict(
        rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1, 1.3, 1.7], long_factor=[3, 5.5, 8, 11])),
    "longrope, factors given": sizes(8, positions=512, rope_parameters=dict(
        rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1, 1.3, 1.7], long_factor=[3, 5.5, 8, 11],
        factor=6.0, original_max_position_embeddings=96, attention_factor=1.31)),
    "longrope, a factor": sizes(8, positions=512, rope_parameters=dict(
        rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1, 1.3, 1.7], long_factor=[3, 5.5, 8, 11],
        factor=6.0, original_max_position_embeddings=96)),
    "proportional": sizes(24, rope_parameters=dict(
        rope_type="proportional", rope_theta=10000.0, partial_rotary_factor=0.4, factor=3.0)),
    "proportional, whole": sizes(24, rope_parameters=dict(rope_type="proportional", rope_theta=1000000.0)),
    "yarn, an empty ramp": sizes(8, positions=64, rope_parameters=dict(
        rope_type="yarn", factor=2.0, rope_theta=10000.0, original_max_position_embeddings=4)),
}


def numbers(tensor):
    return [float(x) for x in tensor.to(torch.float32)]


def make_rope():
    cases = []
    for name, config in ROPE.items():
        made = LlamaConfig(**copy.deepcopy({k: v for k, v in config.items() if k != "model_type"}))
        rope = LlamaRotaryEmbedding(made)
        case = {"name": name, "config": config, "inv_freq": numbers(rope.inv_freq),
                "attention_factor": float(rope.attention_scaling)}
        if rope.rope_type in ("dynamic", "longrope"):
            original = made.rope_parameters.get("original_max_position_embeddings", made.max_position_embeddings)
            case["at"] = {}
            for length in (1, original, original + 1, original * 2, original * 7 + 5):
                inv_freq, _ = ROPE_INIT_FUNCTIONS[rope.rope_type](made, None, seq_len=torch.tensor(length))
                case["at"][str(length)] = numbers(inv_freq) if length > original else case["inv_freq"]
        cases.append(case)
    return cases


def lines(cases):
    return "[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n"


if __name__ == "__main__":
    (HERE / "modules.json").write_text(lines(make_modules()))
    (HERE / "rope.json").write_text(lines(make_rope()))
