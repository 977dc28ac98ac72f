"""Training speed of a plain PyTorch GPT on a CPU: what `cargo xtask bench train` compares with.

The usual small GPT as one writes it by hand (after GPT-2: learned positions, LayerNorm, a GELU layer of four times the
width, the output tied to the embedding), with what makes PyTorch fast on a CPU: fused attention and fused AdamW. It
trains in f32, as ours does. The tokens are random, or with --data the bytes of a file. Prints one JSON line.
"""
import argparse
import json
import time

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.inputs, self.output = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x):
        # [windows, length, 3 × width] to three of [windows, heads, length, width of a head]
        q, k, v = self.inputs(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width, bias=False), Attention(width, heads))
        wide, narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.think = nn.Sequential(nn.LayerNorm(width, bias=False), wide, nn.GELU(), narrow)

    def forward(self, x):
        x = x + self.attend(x)
        return x + self.think(x)


class Gpt(nn.Module):
    def __init__(self, vocab, width, heads, layers, context):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        for weights in self.parameters():
            if weights.dim() == 2:
                nn.init.normal_(weights, std=0.02)

    def loss(self, windows):
        inputs, targets = windows[:, :-1], windows[:, 1:]
        x = self.tokens(inputs) + self.places.weight[: inputs.shape[1]]
        logits = F.linear(self.norm(self.layers(x)), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def adamw(model):
    matrices = [weights for weights in model.parameters() if weights.dim() == 2]
    gains = [weights for weights in model.parameters() if weights.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("vocab", "width", "heads", "layers", "context", "batch", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--data", help="a file whose bytes are the tokens")
    return parser.parse_args()


def text_of(given):
    if given.data is None:
        return torch.randint(given.vocab, (100_000,))
    with open(given.data, "rb") as file:
        return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).long() % given.vocab


def main():
    given = arguments()
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    model = Gpt(given.vocab, given.width, given.heads, given.layers, given.context)
    optimizer, text, span = adamw(model), text_of(given), torch.arange(given.context + 1)

    def step():
        starts = torch.randint(len(text) - given.context, (given.batch, 1))
        loss = model.loss(text[starts + span])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    first = step()
    for _ in range(4):
        last = step()
    steps, begun = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begun) < given.seconds:
        last = step()
        steps += 1
    speed = steps * given.batch * given.context / seconds
    parameters = sum(weights.numel() for weights in model.parameters())
    losses = {"loss_first": round(first, 4), "loss_last": round(last, 4)}
    print(json.dumps({"params": parameters, "threads": given.threads, "tokens_per_s": round(speed), **losses}))


main()
