"""Training speed of a plain PyTorch GPT on a CUDA device: what `cargo xtask bench train --device cuda` compares with.

Written as a user would write it there: bf16 autocast over weights in f32, fused attention, fused AdamW; with
--compile also through torch.compile. Prints one JSON line.
"""
import argparse
import json
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        windows, length, width = x.shape
        q, k, v = (
            part.view(windows, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(width, dim=2)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(windows, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, vocab, layers, heads, width, context):
        super().__init__()
        self.token, self.position = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width, bias=False), nn.Linear(width, vocab, bias=False)
        self.head.weight = self.token.weight
        for name, weights in self.named_parameters():
            if weights.dim() > 1:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weights, std=0.02 / math.sqrt(2 * layers) if last else 0.02)

    def forward(self, inputs, targets):
        x = self.token(inputs) + self.position(torch.arange(inputs.shape[1], device=inputs.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))


def main():
    parser = argparse.ArgumentParser()
    for name in ("vocab", "layers", "heads", "width", "context", "batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true")
    a = parser.parse_args()
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    model = Gpt(a.vocab, a.layers, a.heads, a.width, a.context).to(a.device)
    params = sum(p.numel() for p in model.parameters())
    groups = [
        dict(params=[p for p in model.parameters() if p.dim() > 1], weight_decay=0.1),
        dict(params=[p for p in model.parameters() if p.dim() <= 1], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.99), fused=True)
    run = torch.compile(model) if a.compile else model
    data = torch.randint(0, a.vocab, (100_000,))

    def step():
        starts = torch.randint(0, len(data) - a.context - 1, (a.batch,))
        windows = torch.stack([data[i : i + a.context + 1] for i in starts.tolist()])
        windows = windows.pin_memory().to(a.device, non_blocking=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = run(windows[:, :-1], windows[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    for _ in range(10):
        step()
    torch.cuda.synchronize()
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < a.seconds:
        # As ours: the loss of every step is looked at.
        step().item()
        steps += 1
    torch.cuda.synchronize()
    speed = steps * a.batch * a.context / (time.perf_counter() - begun)
    print(json.dumps(dict(params=params, compiled=a.compile, tokens_per_s=round(speed))))


main()
