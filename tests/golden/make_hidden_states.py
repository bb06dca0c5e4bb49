"""Adds hidden states to golden fixtures: what transformers gives with output_hidden_states=True, in fp32.

    pip install torch==2.11.0 transformers==5.23.0 safetensors numpy
    python tests/golden/make_hidden_states.py

Reads the fixtures that make_golden.py made and writes hidden_states.safetensors beside their golden.safetensors: of
prompt 3, hidden_states_i [n, hidden size] for i in 0..layers, the last of them behind the final norm, and last_layer,
which is before it.
"""
import pathlib

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
FIXTURES = ("gpt2-base", "llama-base", "minimax-m2-old", "qwen3-old")


def main():
    torch.set_num_threads(1)
    for name in FIXTURES:
        folder = HERE / "models" / name
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        golden = load_file(folder / "golden.safetensors")
        seen = []
        blocks = model.transformer.h if name.startswith("gpt2") else model.model.layers
        blocks[-1].register_forward_hook(
            lambda module, inputs, output: seen.append(output[0] if isinstance(output, tuple) else output))
        with torch.inference_mode():
            out = model(golden["prompt_3"][None], output_hidden_states=True)
        assert torch.equal(out.logits[0], golden["logits_3"]), name
        tensors = {f"hidden_states_{i}": states[0].contiguous() for i, states in enumerate(out.hidden_states)}
        tensors["last_layer"] = seen[0][0].contiguous()
        norm = model.transformer.ln_f if name.startswith("gpt2") else model.model.norm
        with torch.inference_mode():
            assert torch.equal(norm(tensors["last_layer"]), tensors[f"hidden_states_{len(blocks)}"]), name
        save_file(tensors, folder / "hidden_states.safetensors")
        print(name, {k: tuple(v.shape) for k, v in tensors.items()}, flush=True)


if __name__ == "__main__":
    main()
