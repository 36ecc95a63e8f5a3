#!/usr/bin/env python3
"""Trains and decodes a mixture-of-experts model with PyTorch on the CPU, to be held beside `tandem bench`.

    python3 -m venv venv && venv/bin/pip install torch
    venv/bin/python benchmarks/pytorch.py [--model configs/models/shape-s] [--threads 2]

The model is written as such models usually are: a loop over the experts, each with the tokens routed to it; attention by
scaled_dot_product_attention; AdamW; bf16 weights for decoding, autocast to bf16 for training.
"""
import argparse
import json
import pathlib
import resource
import time

import torch
from torch import nn
from torch.nn import functional as F


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cos + turned * sin


class Experts(nn.Module):
    def __init__(self, c):
        super().__init__()
        hidden, width, count = c["hidden_size"], c["moe_intermediate_size"], c["num_experts"]
        self.top_k = c["num_experts_per_tok"]
        self.router = nn.Linear(hidden, count, bias=False)
        self.gate, self.up = (nn.ModuleList(nn.Linear(hidden, width, bias=False) for _ in range(count)) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in range(count))

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        weights, chosen = F.softmax(self.router(rows).float(), -1).topk(self.top_k)
        weights = (weights / weights.sum(-1, keepdim=True)).to(rows.dtype)
        out = torch.zeros_like(rows)
        for e in range(len(self.gate)):
            row, slot = (chosen == e).nonzero(as_tuple=True)
            if len(row) == 0:
                continue
            some = rows[row]
            y = self.down[e](F.silu(self.gate[e](some)) * self.up[e](some))
            out.index_add_(0, row, (y * weights[row, slot, None]).to(out.dtype))
        return out.view_as(x)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        hidden, self.heads, self.dim = c["hidden_size"], c["num_attention_heads"], c["head_dim"]
        self.q, self.k, self.v = (nn.Linear(hidden, self.heads * self.dim, bias=False) for _ in range(3))
        self.o = nn.Linear(self.heads * self.dim, hidden, bias=False)
        self.norms = nn.ModuleList(nn.RMSNorm(hidden) for _ in range(2))
        self.experts = Experts(c)

    def forward(self, x, cos, sin, cache):
        y = self.norms[0](x)
        q, k, v = (m(y).view(*y.shape[:2], self.heads, self.dim).transpose(1, 2) for m in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        if cache is not None:
            cache["k"] = k = torch.cat((cache["k"], k), 2) if "k" in cache else k
            cache["v"] = v = torch.cat((cache["v"], v), 2) if "v" in cache else v
        y = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        return x + self.experts(self.norms[1](x))


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.dim = c["head_dim"]
        self.embedding = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = nn.RMSNorm(c["hidden_size"])
        self.head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)

    def forward(self, ids, first=0, caches=None):
        inverse = 10000.0 ** (-torch.arange(0, self.dim, 2) / self.dim)
        angles = torch.outer(torch.arange(first, first + ids.shape[1]).float(), inverse).repeat(1, 2)
        x = self.embedding(ids)
        for i, layer in enumerate(self.layers):
            x = layer(x, angles.cos(), angles.sin(), caches[i] if caches else None)
        return self.head(self.norm(x if caches is None else x[:, -1:]))


def training(c, sequences, length, steps):
    model = Model(c)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    seconds = []
    for _ in range(steps + 1):
        ids = torch.randint(c["vocab_size"], (sequences, length + 1))
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids[:, :-1])
        F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return sequences * length / min(seconds[1:])


@torch.no_grad()
def inference(c, sequences, prompt, steps):
    model = Model(c).bfloat16()
    ids = torch.randint(c["vocab_size"], (sequences, prompt))
    model(ids, 0, [{} for _ in model.layers])  # warm
    caches = [{} for _ in model.layers]
    start = time.perf_counter()
    model(ids, 0, caches)
    prefill = sequences * prompt / (time.perf_counter() - start)
    start = time.perf_counter()
    for i in range(steps):
        model(ids[:, :1], prompt + i, caches)
    return prefill, sequences * steps / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="configs/models/shape-s", help="directory with config.json (SwiGLU, RMSNorm)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="of training; ten times as many of decoding")
    options = parser.parse_args()
    c = json.loads((pathlib.Path(options.model) / "config.json").read_text())
    torch.set_num_threads(options.threads)
    prefill, _ = inference(c, 1, 512, 1)
    print(f"prefill of 512 tokens         {prefill:8.0f} tokens/s")
    for sequences in (1, 16, 32):
        _, decode = inference(c, sequences, 128, 10 * options.steps)
        print(f"decode, {sequences:2} sequences at 128   {decode:8.1f} tokens/s")
    print(f"training, 8 x 512 tokens      {training(c, 8, 512, options.steps):8.0f} tokens/s")
    print(f"largest memory                {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:8.1f} GB")


if __name__ == "__main__":
    main()
