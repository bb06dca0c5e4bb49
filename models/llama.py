"""A minimal Llama in PyTorch whose parameters carry the names that published checkpoints use."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class RmsNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rotate(x, cos, sin):
    """Rotates pairs (i, i + head_dim / 2) of [batch, heads, tokens, head_dim] by the angle of their position."""
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, self.head_dim = config["hidden_size"], config["head_dim"]
        queries, keys = config["num_attention_heads"] * self.head_dim, config["num_key_value_heads"] * self.head_dim
        self.q_proj = nn.Linear(hidden, queries, bias=False)
        self.k_proj = nn.Linear(hidden, keys, bias=False)
        self.v_proj = nn.Linear(hidden, keys, bias=False)
        self.o_proj = nn.Linear(queries, hidden, bias=False)

    def forward(self, x, cos, sin):
        batch, tokens, _ = x.shape
        q, k, v = (projection(x).view(batch, tokens, -1, self.head_dim).transpose(1, 2)
                   for projection in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        repeat = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, tokens, -1))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config, dropout):
        super().__init__()
        self.input_layernorm = RmsNorm(config["hidden_size"], config["rms_norm_eps"])
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RmsNorm(config["hidden_size"], config["rms_norm_eps"])
        self.mlp = Mlp(config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, cos, sin):
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), cos, sin))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


class Llama(nn.Module):
    """Llama with a tied head.

    forward takes token ids [batch, tokens] and returns logits [batch, tokens, vocabulary].
    """

    def __init__(self, config, dropout=0.0):
        super().__init__()
        self.config = config
        self.model = nn.ModuleDict({
            "embed_tokens": nn.Embedding(config["vocab_size"], config["hidden_size"]),
            "layers": nn.ModuleList(Layer(config, dropout) for _ in range(config["num_hidden_layers"])),
            "norm": RmsNorm(config["hidden_size"], config["rms_norm_eps"]),
        })
        self.dropout = nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                onto_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                shrink = math.sqrt(2 * config["num_hidden_layers"]) if onto_residual else 1
                nn.init.normal_(parameter, std=0.02 / shrink)

    def angles(self, tokens, dtype):
        half = self.config["head_dim"] // 2
        frequencies = self.config["rope_theta"] ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = torch.arange(tokens, dtype=torch.float32)[:, None] * frequencies
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def forward(self, ids):
        x = self.dropout(self.model["embed_tokens"](ids))
        cos, sin = self.angles(ids.shape[1], x.dtype)
        for layer in self.model["layers"]:
            x = layer(x, cos, sin)
        return F.linear(self.model["norm"](x), self.model["embed_tokens"].weight)


@torch.no_grad()
def sample(model, ids, count, temperature, stop, seed=0):
    """Continues `ids`, the simple way (everything is computed anew for every token). Temperature 0 is greedy."""
    generator = torch.Generator().manual_seed(seed)
    ids = list(ids)
    start = len(ids)
    for _ in range(count):
        logits = model(torch.tensor([ids]))[0, -1].float()
        if temperature == 0:
            token = int(logits.argmax())
        else:
            token = int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))
        if token in stop:
            break
        ids.append(token)
    return ids[start:]
