"""Makes the golden fixtures: tiny random checkpoints and what transformers computes from them in fp32.

    pip install torch==2.11.0 transformers==5.23.0 safetensors numpy
    python tests/golden/make_golden.py [NAME ...]

Each folder under tests/golden/models holds config.json, the weights, and golden.safetensors with, for prompt i,
prompt_i [n] and tokens_i [64] (int64) and logits_i [n, vocab] (fp32, of the prompt's rows). Random weights make flat
logits, so seeds are tried until the smallest difference between the best and the second-best logit over all greedy
steps is at least MARGIN_MIN; the margin reached is in golden.json. So is, of mixtures of experts, the smallest
difference between the scores of the last expert chosen and the first one not chosen, at least ROUTER_MARGIN_MIN, and
how many tokens went to each expert of each layer.
"""
import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MiniMaxM2Config,
                          MiniMaxM2ForCausalLM, MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig,
                          Qwen3MoeForCausalLM)

HERE = pathlib.Path(__file__).parent
GENERATED = 64
MARGIN_MIN = 2e-3
ROUTER_MARGIN_MIN = 2e-5
DISTINCT_MIN = 12  # a sequence that repeats itself would hide errors
LENGTHS = (3, 18, 33, 70)  # the last shares the third's first 32 tokens
# transformers rotates a whole prompt by its length under dynamic scaling (and longrope), so that a token depends on
# what comes after it. Causeway rotates each position by what came before, which is the same up to the original context
# (64 here) and for every token generated after.
LENGTHS_DYNAMIC = (3, 18, 33, 60)
BY_LENGTH = ("dynamic", "longrope")


def decoder(model, config, **defaults):
    def make(**changes):
        values = dict(vocab_size=127, hidden_size=48, intermediate_size=80, num_hidden_layers=4, num_attention_heads=4,
                      num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False, bos_token_id=1,
                      eos_token_id=2)
        rope = changes.pop("rope", None)
        values.update(defaults | changes)
        if rope:
            values["rope_parameters"] = rope
        return model, config(**values)
    return make


llama = decoder(LlamaForCausalLM, LlamaConfig, vocab_size=199)
mistral = decoder(MistralForCausalLM, MistralConfig)
qwen2 = decoder(Qwen2ForCausalLM, Qwen2Config)
qwen3 = decoder(Qwen3ForCausalLM, Qwen3Config, head_dim=16)
mixtral = decoder(MixtralForCausalLM, MixtralConfig, num_local_experts=6, intermediate_size=24)
qwen3_moe = decoder(Qwen3MoeForCausalLM, Qwen3MoeConfig, head_dim=16, num_experts=8, num_experts_per_tok=3,
                    moe_intermediate_size=20)
minimax_m2 = decoder(MiniMaxM2ForCausalLM, MiniMaxM2Config, head_dim=16, num_local_experts=8, num_experts_per_tok=3,
                     intermediate_size=20)


def gpt2(**changes):
    config = dict(vocab_size=199, n_embd=48, n_layer=4, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2)
    config.update(changes)
    return GPT2LMHeadModel, GPT2Config(**config)


ROPE = dict(rope_theta=10000.0, original_max_position_embeddings=64)
LONGROPE = dict(ROPE, rope_type="longrope", short_factor=[1.0, 1.05, 1.1, 1.2, 1.4, 1.7],
                long_factor=[1.0, 1.5, 2.2, 3.0, 4.5, 7.0])
# Keys that the published MiniMax-M2 has and transformers does not read.
MINIMAX_M2 = dict(attn_type_list=[1] * 4, layernorm_full_attention_beta=1.0, layernorm_linear_attention_beta=1.0,
                  layernorm_mlp_beta=1.0, mlp_intermediate_size=64, mtp_transformer_layers=1, num_mtp_modules=3,
                  qk_norm_type="per_layer", scoring_func="sigmoid", shared_intermediate_size=0,
                  shared_moe_mode="sigmoid", sliding_window=None, use_mtp=True, use_qk_norm=True, use_routing_bias=True)
# name: (model, how it is stored)
VARIANTS = {
    "llama-base": (llama(num_key_value_heads=4), dict(dtype=torch.float32)),
    "llama-gqa-tied": (llama(tie_word_embeddings=True, num_key_value_heads=1), {}),
    "llama-biases": (llama(attention_bias=True, mlp_bias=True), dict(dtype=torch.float16, gain=1.1)),
    "llama-head-dim": (llama(head_dim=16, num_attention_heads=6, num_key_value_heads=3), {}),
    "llama-gelu-sharded": (llama(hidden_act="gelu_pytorch_tanh", rms_norm_eps=1e-5), dict(shards=3)),
    "llama-rope-linear": (llama(rope=dict(ROPE, rope_type="linear", factor=4.0)), {}),
    "llama-rope-dynamic": (llama(max_position_embeddings=64,
                                 rope=dict(rope_theta=10000.0, rope_type="dynamic", factor=4.0)), {}),
    "llama-rope-llama3": (llama(rope=dict(ROPE, rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                                          high_freq_factor=4.0)), {}),
    "llama-rope-yarn": (llama(rope=dict(ROPE, rope_type="yarn", factor=4.0)), dict(gain=1.2)),
    "llama-old-theta": (llama(rope=dict(rope_theta=50000.0, rope_type="default")), dict(old=True)),
    "llama-old-llama3": (llama(rope=dict(ROPE, rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                                         high_freq_factor=4.0)), dict(old=True)),
    "llama-old-yarn": (llama(rope=dict(ROPE, rope_type="yarn", factor=4.0, attention_factor=1.2)), dict(old=True)),
    "llama-old-linear": (llama(rope=dict(ROPE, rope_type="linear", factor=2.0)), dict(old=True)),
    "llama-rope-longrope": (llama(vocab_size=127, rope=LONGROPE), {}),
    "llama-old-longrope": (llama(vocab_size=127, rope=dict(LONGROPE, attention_factor=1.1)), dict(old=True)),
    "llama-rope-proportional": (llama(vocab_size=127, rope=dict(rope_theta=10000.0, rope_type="proportional",
                                                                partial_rotary_factor=0.5)), {}),
    "mistral-window": (mistral(sliding_window=20), {}),
    "mistral-old": (mistral(sliding_window=None, head_dim=16, rope=dict(rope_theta=1e6, rope_type="default")),
                    dict(old=True)),
    "qwen2-old": (qwen2(tie_word_embeddings=True), dict(old=True, more=dict(sliding_window=4096, use_mrope=False))),
    "qwen2-window": (qwen2(use_sliding_window=True, sliding_window=24, max_window_layers=2), {}),
    "qwen2-old-window": (qwen2(use_sliding_window=True, sliding_window=24, max_window_layers=1), dict(old=True)),
    "qwen3-old": (qwen3(tie_word_embeddings=True), dict(old=True)),
    "qwen3-layer-types": (qwen3(attention_bias=True, use_sliding_window=True, sliding_window=16, layer_types=[
        "sliding_attention", "full_attention", "full_attention", "sliding_attention"]), {}),
    "mixtral-old": (mixtral(), dict(old=True)),
    "mixtral-stacked": (mixtral(sliding_window=24, num_experts_per_tok=1), dict(stacked=True)),
    "qwen3-moe-old": (qwen3_moe(norm_topk_prob=True, mlp_only_layers=[1], intermediate_size=40), dict(old=True)),
    "qwen3-moe-stacked": (qwen3_moe(tie_word_embeddings=True, decoder_sparse_step=2,
                                    rope=dict(ROPE, rope_type="linear", factor=2.0)), dict(stacked=True)),
    "minimax-m2-old": (minimax_m2(rotary_dim=8), dict(old=True, more=MINIMAX_M2, shards=2)),
    "minimax-m2-stacked": (minimax_m2(rope=dict(ROPE, rope_type="yarn", factor=4.0, partial_rotary_factor=0.5)),
                           dict(stacked=True)),
    "gpt2-base": (gpt2(), dict(dtype=torch.float32)),
    "gpt2-published": (gpt2(n_positions=192), dict(old=True, published=True)),
    "gpt2-untied": (gpt2(tie_word_embeddings=False, n_inner=112, activation_function="relu"), {}),
    "gpt2-gelu": (gpt2(activation_function="gelu", layer_norm_epsilon=1e-6), dict(dtype=torch.float16)),
}


def randomize(model, seed, stored, gain):
    """Weights wide enough for attention, positions and biases to matter; rounded to what is stored."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            values = torch.randn(p.shape, generator=generator)
            if "q_norm" in name or "k_norm" in name:
                values = 1 + 0.4 * values
            elif p.dim() == 1:
                scales = "norm" in name or "ln_" in name and name.endswith("weight")
                values = 1 + 0.2 * values if scales else 0.2 * values
            elif "wpe" in name:
                values = 0.5 * values
            elif "embed" in name or "wte" in name or "lm_head" in name:
                # A tied head as wide as the rest would only repeat its input.
                values = (0.15 if model.config.tie_word_embeddings else 0.7) * values
            else:
                fan_in = p.shape[0] if "c_" in name and p.dim() == 2 else p.shape[-1]
                values = values * (gain / fan_in**0.5)
            p.copy_(values.to(stored).float())
        for name, b in model.named_buffers():
            if name.endswith("e_score_correction_bias"):  # stored in fp32; scores are from 0 to 1
                b.copy_(0.3 * torch.randn(b.shape, generator=generator))


class RouterWatch:
    """How narrowly experts were chosen, how many tokens each got, and for how many the correction changed the
    choice."""

    def __init__(self, model):
        self.clear()
        for name, module in model.named_modules():
            if type(module).__name__.endswith("TopKRouter"):
                module.register_forward_hook(
                    lambda module, inputs, output, name=name: self.see(module, name, inputs, output))

    def clear(self):
        self.margin, self.tokens, self.corrected = float("inf"), {}, 0

    def see(self, module, name, inputs, output):
        logits, _, chosen = output
        scores = torch.sigmoid(logits) if len(inputs) > 1 else logits
        plain = scores.topk(module.top_k).indices.sort().values
        scores = scores + inputs[1] if len(inputs) > 1 else scores
        best = scores.topk(module.top_k + 1)
        self.margin = min(self.margin, (best.values[:, -2] - best.values[:, -1]).min().item())
        self.corrected += (plain != chosen.sort().values).any(-1).sum().item()
        counts = self.tokens.setdefault(name, torch.zeros(module.num_experts, dtype=torch.long))
        counts += torch.bincount(chosen.flatten(), minlength=module.num_experts)

    def report(self):
        if not self.tokens:
            return {}
        return {"router_margin_min": self.margin, "tokens_with_a_corrected_choice": self.corrected,
                "tokens_of_experts": [c.tolist() for c in self.tokens.values()]}


def golden(model, seed):
    generator = torch.Generator().manual_seed(seed)
    vocab = model.config.vocab_size
    rope = getattr(model.config, "rope_parameters", None) or {}
    lengths = LENGTHS_DYNAMIC if rope.get("rope_type") in BY_LENGTH else LENGTHS
    prompts = [torch.randint(3, vocab, (n,), generator=generator) for n in lengths]
    prompts[3][:32] = prompts[2][:32]
    tensors, margin = {}, float("inf")
    for i, prompt in enumerate(prompts):
        with torch.inference_mode():
            out = model(prompt[None], use_cache=True)
            tensors[f"prompt_{i}"], tensors[f"logits_{i}"] = prompt, out.logits[0].float().contiguous()
            tokens = []
            for _ in range(GENERATED):
                top = out.logits[0, -1].topk(2)
                margin = min(margin, (top.values[0] - top.values[1]).item())
                tokens.append(top.indices[0].item())
                out = model(top.indices[:1][None], past_key_values=out.past_key_values, use_cache=True)
            tensors[f"tokens_{i}"] = torch.tensor(tokens)
    return tensors, margin


def distinct_tokens(tensors):
    return min(len(set(tensors[f"tokens_{i}"].tolist())) for i in range(len(LENGTHS)))


def old_spelling(config):
    """The configuration as transformers 4 wrote it."""
    config["torch_dtype"] = config.pop("dtype", "float32")
    config.pop("layer_types", None)
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    rope = config.pop("rope_parameters", None)
    if rope:
        config["rope_theta"] = rope.pop("rope_theta")
        if "rotary_dim" in config:
            rope.pop("partial_rotary_factor")
        if rope.get("rope_type") == "default":
            config["rope_scaling"] = None
        elif rope["rope_type"] == "linear":  # the oldest spelling says "type"
            config["rope_scaling"] = {"type": rope["rope_type"], "factor": rope["factor"]}
        else:
            config["rope_scaling"] = rope
    return config


def one_by_one(tensors, model_type):
    """Experts as they are published, of the stacks that transformers 5 computes from."""
    gate, up, down = ("gate_proj", "up_proj", "down_proj") if model_type == "qwen3_moe" else ("w1", "w3", "w2")
    apart = {}
    for name, tensor in tensors.items():
        if model_type != "qwen3_moe":
            name = name.replace(".mlp.", ".block_sparse_moe.")
        if name.endswith(".experts.gate_up_proj"):
            for e, both in enumerate(tensor):
                prefix = f"{name.removesuffix('gate_up_proj')}{e}."
                apart[f"{prefix}{gate}.weight"], apart[f"{prefix}{up}.weight"] = both.chunk(2)
        elif name.endswith(".experts.down_proj"):
            for e, matrix in enumerate(tensor):
                apart[f"{name.removesuffix('down_proj')}{e}.{down}.weight"] = matrix
        else:
            apart[name] = tensor
    return {k: v.contiguous() for k, v in apart.items()}


def write(folder, model, stored):
    dtype = stored.get("dtype", torch.bfloat16)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tensors = {k: v.to(torch.float32 if "correction" in k else dtype).contiguous()
               for k, v in model.state_dict().items()}
    if any(".experts." in k for k in tensors) and not stored.get("stacked"):
        tensors = one_by_one(tensors, model.config.model_type)
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    if stored.get("published"):  # gpt2 as published: no prefix, and the causal masks stored beside the weights
        tensors = {k.removeprefix("transformer."): v for k, v in tensors.items()}
        n = model.config.n_positions
        for layer in range(model.config.n_layer):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(n, n, dtype=torch.uint8).tril()[None, None]
    shards = stored.get("shards", 1)
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        weight_map = {}
        for s in range(shards):
            file = f"model-{s + 1:05}-of-{shards:05}.safetensors"
            part = names[s::shards]
            save_file({k: tensors[k] for k in part}, folder / file, metadata={"format": "pt"})
            weight_map.update({k: file for k in part})
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    config = model.config.to_diff_dict()
    config["architectures"] = [type(model).__name__]
    config["dtype"] = str(dtype).removeprefix("torch.")
    if stored.get("old"):
        config = old_spelling(config)
    config.update(stored.get("more", {}))
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def main():
    torch.set_num_threads(1)
    for name, ((kind, config), stored) in VARIANTS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        best = (-1.0, None)
        model = kind(config).float().eval()
        watch = RouterWatch(model)

        def attempt(seed):
            randomize(model, seed, stored.get("dtype", torch.bfloat16), stored.get("gain", 1.6))
            watch.clear()
            return golden(model, seed)

        for seed in range(1, 400):
            tensors, margin = attempt(seed)
            if distinct_tokens(tensors) < DISTINCT_MIN or watch.margin < ROUTER_MARGIN_MIN:
                continue
            best = max(best, (margin, seed))
            if margin >= MARGIN_MIN:
                break
        seed = best[1]
        tensors, margin = attempt(seed)
        folder = HERE / "models" / name
        write(folder, model, stored)
        save_file(tensors, folder / "golden.safetensors")
        (folder / "golden.json").write_text(json.dumps({"seed": seed, "margin_min": margin} | watch.report(), indent=1)
                                            + "\n")
        print(f"{name}: seed {seed}, margin {margin:.5f}, at least {distinct_tokens(tensors)} distinct tokens",
              watch.report(), flush=True)


if __name__ == "__main__":
    main()
