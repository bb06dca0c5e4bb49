"""Writes a model of random weights to FOLDER, made on the GPU: llama-7b (the shape of Llama-2-7B) or moe (Qwen3-MoE,
2.9 B parameters of which a token uses 0.5 B), in bf16 and without a tokenizer. Needs torch alone.

    random_model.py llama-7b|moe FOLDER
"""
import json
import os
import sys

CONFIGS = {
    "llama-7b": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
                 "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
                 "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
                 "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
                 "torch_dtype": "bfloat16"},
    "moe": {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048,
            "intermediate_size": 768, "moe_intermediate_size": 768, "num_hidden_layers": 9, "num_attention_heads": 16,
            "num_key_value_heads": 4, "head_dim": 128, "num_experts": 64, "num_experts_per_tok": 8,
            "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "vocab_size": 32000,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
            "attention_bias": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
}


def shapes(config):
    """{tensor: shape}, in the file's order."""
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim", hidden // heads)
    tensors = {"model.embed_tokens.weight": [vocab, hidden]}

    def mlp(prefix, width):
        tensors[prefix + "gate_proj.weight"] = [width, hidden]
        tensors[prefix + "up_proj.weight"] = [width, hidden]
        tensors[prefix + "down_proj.weight"] = [hidden, width]

    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        tensors[at + "input_layernorm.weight"] = [hidden]
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            tensors[f"{at}self_attn.{name}_proj.weight"] = [rows * head, hidden]
        tensors[at + "self_attn.o_proj.weight"] = [hidden, heads * head]
        tensors[at + "post_attention_layernorm.weight"] = [hidden]
        if "num_experts" not in config:
            mlp(at + "mlp.", config["intermediate_size"])
            continue
        tensors[at + "self_attn.q_norm.weight"] = [head]
        tensors[at + "self_attn.k_norm.weight"] = [head]
        tensors[at + "mlp.gate.weight"] = [config["num_experts"], hidden]
        for expert in range(config["num_experts"]):
            mlp(f"{at}mlp.experts.{expert}.", config["moe_intermediate_size"])
    tensors["model.norm.weight"] = [hidden]
    tensors["lm_head.weight"] = [vocab, hidden]
    return tensors


def write(config, folder, torch, device):
    """model.safetensors: a header's length, the header as JSON, then the tensors' bytes."""
    header, offset = {}, 0
    tensors = shapes(config)
    for name, shape in tensors.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    torch.manual_seed(0)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in tensors.values():
            # As wide as training leaves them: activations stay finite, and tokens differ.
            values = torch.ones(shape) if len(shape) == 1 else torch.randn(shape, device=device) * shape[1] ** -0.5
            file.write(values.to(torch.bfloat16).cpu().view(torch.int16).numpy().tobytes())
    return offset


def main():
    kind, folder = sys.argv[1:]
    import torch  # pylint: disable=import-outside-toplevel
    device = "cuda" if torch.cuda.is_available() else "cpu"
    os.makedirs(folder, exist_ok=True)
    written = write(CONFIGS[kind], folder, torch, device)
    # Last, since its being there says that the model is whole.
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(CONFIGS[kind], file, indent=2)
    print(f"{folder}: {written / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
