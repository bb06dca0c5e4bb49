"""What was measured beside what the GPU could do at best, by the catalogue that plans are made with."""
import json
import os


def of_catalogue(root, reported):
    """The entry of the GPU that the driver calls so; None: it is not there."""
    with open(os.path.join(root, "engine", "plan", "catalogue.json"), encoding="utf-8") as file:
        for device in json.load(file)["devices"]:
            if device["reported"].lower() == reported.lower():
                return device
    return None


def text(device):
    if device is None:
        return "not in the catalogue"
    return f"{device['memory_gb_per_second']:g} GB/s, {device['tflops'].get('bf16', 0):g} TFLOP/s in bf16"


def kv_bytes(config, element):
    """Of one token, over all layers."""
    heads = config.get("num_key_value_heads", config["num_attention_heads"])
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return 2 * config["num_hidden_layers"] * heads * head * element


def bench_figures(rows, config, device):
    """A step of decoding reads the weights and the KV cache once; prefill multiplies each weight once with each token.
    Of a mixture of experts, no limit is told: how many experts a step reads depends on the tokens."""
    figures = []
    for row in rows:
        batch, prompt = row["batch"], row["prompt_tokens"]
        decode_ms = 1e3 * batch / row["decode_tokens_per_second"]
        prefill_ms = 1e3 * batch * prompt / row["prefill_tokens_per_second"]
        element = 4 if row["dtype"] == "fp32" else 2
        limits = ("", "")
        if device is not None and "num_experts" not in config:
            context = prompt + row["generated_tokens"] / 2
            read = row["weight_bytes"] + batch * context * kv_bytes(config, element)
            # The embeddings are looked up, and the head is computed for the last token alone.
            tables = 2 * config["vocab_size"] * config["hidden_size"] * element
            flops = 2 * (row["weight_bytes"] - tables) / element * batch * prompt
            limits = (f"{read / device['memory_gb_per_second'] / 1e6:.2f} ms",
                      f"{flops / device['tflops'].get(row['dtype'], device['tflops']['fp32']) / 1e9:.1f} ms")
        where = f"batch {batch}, prompt {prompt}"
        figures.append((f"{where}: a step of decoding in {decode_ms:.2f} ms", limits[0]))
        figures.append((f"{where}: prefill in {prefill_ms:.1f} ms", limits[1]))
    return figures
