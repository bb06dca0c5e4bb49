#!/usr/bin/env python3
"""Writes a random-weight mixture of experts to FOLDER, to measure speed with: Qwen3-MoE, 2.94 B parameters of which a
token uses 0.50 B, bf16, without a tokenizer. Needs torch and transformers 5 or later, 13 GB of memory and 6 GB of disk.

    scripts/random_moe.py FOLDER
"""

import argparse

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = parser.parse_args().folder
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(
        vocab_size=32000, hidden_size=2048, num_hidden_layers=9, num_attention_heads=16, num_key_value_heads=4,
        head_dim=128, num_experts=64, num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True,
        max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None))
    model.generation_config.eos_token_id = None  # what is measured generates as long as it is told
    model.save_pretrained(folder)
    print(f"{folder}: {sum(p.numel() for p in model.parameters()) / 1e9:.2f} B parameters")


if __name__ == "__main__":
    main()
