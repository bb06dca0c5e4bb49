"""Makes the quantized fixtures: tiny random checkpoints in the published formats, and what transformers computes from
their weights.

    pip install torch==2.11.0 transformers==5.23.0 safetensors numpy
    python tests/golden/make_quantized.py [NAME ...]

Each folder under tests/golden/quantized holds what make_golden.py writes, computed in fp32 from the dequantized
weights, and dequantized.safetensors: those weights in fp32 for the first layer. Values are packed and dequantized here
plainly, one nibble after the other, from the definitions of the formats: FP8 with block scales as DeepSeek and MiniMax
publish it, GPTQ as AutoGPTQ and GPTQModel write it, AWQ as AutoAWQ does ("gemm").
"""
import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file

import make_golden
from make_golden import llama

HERE = pathlib.Path(__file__).parent
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the output that each nibble of a word is, from the lowest


def pack(columns, order=range(8)):
    """[rows, 8 n] of 0..15 -> int32 [rows, n]: nibble k of a word is its column order[k]."""
    rows, n = columns.shape
    words = torch.zeros(rows, n // 8, dtype=torch.int64)
    for nibble, column in enumerate(order):
        words |= columns[:, column::8].long() << (4 * nibble)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def to_groups(weight, group, symmetric):
    """Plain rounding: q [out, in] in 0..15, scales fp16 and zeros [out, groups]."""
    out, width = weight.shape
    parts = weight.reshape(out, -1, group)
    if symmetric:
        scales = (parts.abs().amax(2) / 7).half()
        zeros = torch.full_like(scales, 8)
    else:
        low, high = parts.amin(2).clamp(max=0), parts.amax(2).clamp(min=0)
        scales = ((high - low) / 15).half()
        zeros = (-low / scales.float()).round().clamp(0, 15)
    q = (parts / scales.float()[..., None] + zeros[..., None]).round().clamp(0, 15)
    return q.reshape(out, width).int(), scales, zeros.int()


def gptq(weight, bits=4, group_size=32, sym=False, desc_act=False, checkpoint_format="gptq", generator=None):
    out, width = weight.shape
    group = width if group_size == -1 else group_size
    # Act-order: inputs are grouped in the order of their importance, here any.
    order = torch.randperm(width, generator=generator) if desc_act else torch.arange(width)
    g_idx = torch.empty(width, dtype=torch.int32)
    g_idx[order] = (torch.arange(width) // group).int()
    sorted_q, scales, zeros = to_groups(weight[:, order], group, sym)
    q = torch.empty_like(sorted_q)
    q[:, order] = sorted_q
    stored_zeros = (zeros - (1 if checkpoint_format == "gptq" else 0)) % 16
    dequantized = scales.float()[:, g_idx.long()] * (q - zeros[:, g_idx.long()]).float()
    tensors = {
        "qweight": pack(q).t().contiguous(),  # [in / 8, out]
        "qzeros": pack(stored_zeros.t()),  # [groups, out / 8]
        "scales": scales.t().contiguous(),
        "g_idx": g_idx,
    }
    return tensors, dequantized


def awq(weight, bits=4, group_size=32, **_):
    q, scales, zeros = to_groups(weight, group_size, symmetric=False)
    dequantized = scales.float().repeat_interleave(group_size, 1) * (q - zeros.repeat_interleave(group_size, 1)).float()
    tensors = {
        "qweight": pack(q.t(), AWQ_ORDER),  # [in, out / 8]
        "qzeros": pack(zeros.t(), AWQ_ORDER),  # [groups, out / 8]
        "scales": scales.t().contiguous(),
    }
    return tensors, dequantized


def fp8(weight, **_):
    block = 128
    out, width = weight.shape
    values = torch.empty(out, width, dtype=torch.float8_e4m3fn)
    dequantized = torch.empty(out, width)
    scales = torch.empty(-(-out // block), -(-width // block))
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            here = slice(i * block, (i + 1) * block), slice(j * block, (j + 1) * block)
            scales[i, j] = weight[here].abs().max() / 448
            values[here] = (weight[here] / scales[i, j]).to(torch.float8_e4m3fn)
            dequantized[here] = values[here].float() * scales[i, j]
    return {"weight": values, "weight_scale_inv": scales}, dequantized


SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2)
# name: (model, quantizer, quantization_config, how it is stored)
VARIANTS = {
    "fp8": (llama(hidden_size=160, intermediate_size=192, num_hidden_layers=2), fp8,
            dict(quant_method="fp8", fmt="float8_e4m3fn", activation_scheme="dynamic", weight_block_size=[128, 128],
                 modules_to_not_convert=["lm_head", "model.layers.1.mlp.down_proj"]), dict(dtype=torch.bfloat16)),
    "gptq-asym": (llama(**SMALL), gptq, dict(quant_method="gptq", bits=4, group_size=32, sym=False, desc_act=False),
                  {}),
    # An even vocabulary: a test cuts all of this one in two.
    "gptq-sym": (llama(**SMALL, vocab_size=200), gptq,
                 dict(quant_method="gptq", bits=4, group_size=-1, sym=True, desc_act=False), {}),
    "gptq-act-order": (llama(**SMALL, attention_bias=True), gptq,
                       dict(quant_method="gptq", bits=4, group_size=32, sym=False, desc_act=True,
                            checkpoint_format="gptq_v2"), {}),
    "awq": (llama(**SMALL), awq, dict(quant_method="awq", bits=4, group_size=32, version="gemm", zero_point=True,
                                      modules_to_not_convert=None), {}),
}


def quantize(model, quantizer, config, seed):
    """Quantizes the layers' linears in place; returns the tensors as stored and the dequantized weights."""
    stored, dequantized = {}, {}
    for name, module in model.named_modules():
        kept = any(name.endswith(k) for k in config.get("modules_to_not_convert") or [])
        if not isinstance(module, torch.nn.Linear) or ".layers." not in name or kept:
            continue
        # Linears of the same input share an order, as q, k and v do: it is the input's.
        same_input = sum(map(ord, name.rsplit(".", 1)[0])) + (name.endswith("o_proj") or name.endswith("down_proj"))
        generator = torch.Generator().manual_seed(seed * 1000 + same_input)
        options = {k: v for k, v in config.items() if k in ("group_size", "sym", "desc_act", "checkpoint_format")}
        tensors, weight = quantizer(module.weight.detach().float(), **options,
                                    **({"generator": generator} if quantizer is gptq else {}))
        stored.update({f"{name}.{k}": v for k, v in tensors.items()})
        dequantized[f"{name}.weight"] = weight
        with torch.no_grad():
            module.weight.copy_(weight)
    return stored, dequantized


def main():
    torch.set_num_threads(1)
    for name, ((kind, config), quantizer, quantization, how) in VARIANTS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        dtype = how.get("dtype", torch.float16)
        model = kind(config).float().eval()

        def make(seed):
            make_golden.randomize(model, seed, dtype, 1.6)
            stored, dequantized = quantize(model, quantizer, quantization, seed)
            return stored, dequantized, *make_golden.golden(model, seed)

        best = (-1.0, None)
        for seed in range(1, 400):
            _, _, tensors, margin = make(seed)
            if make_golden.distinct_tokens(tensors) < make_golden.DISTINCT_MIN:
                continue
            best = max(best, (margin, seed))
            if margin >= make_golden.MARGIN_MIN:
                break
        stored, dequantized, tensors, margin = make(best[1])
        folder = HERE / "quantized" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        plain = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items() if k not in dequantized}
        save_file({**plain, **stored}, folder / "model.safetensors", metadata={"format": "pt"})
        first = {k: v.contiguous() for k, v in dequantized.items() if ".layers.0." in k}
        save_file(first, folder / "dequantized.safetensors")
        save_file(tensors, folder / "golden.safetensors")
        written = model.config.to_diff_dict()
        written.update(architectures=[kind.__name__], dtype=str(dtype).removeprefix("torch."),
                       quantization_config=quantization)
        (folder / "config.json").write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
        (folder / "golden.json").write_text(json.dumps({"seed": best[1], "margin_min": margin}, indent=1) + "\n")
        distinct = make_golden.distinct_tokens(tensors)
        print(f"{name}: seed {best[1]}, margin {margin:.5f}, at least {distinct} distinct tokens", flush=True)


if __name__ == "__main__":
    main()
