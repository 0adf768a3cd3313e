"""The technical model in PyTorch, as `mor` trains it: the peer that `mor bench train` is compared with.

Prints one line of JSON. See README.md beside this file.
"""

import argparse
import json
import resource
import time

import torch
from torch import nn
from torch.nn import functional as F

VOCAB, DIM, LAYERS, HEADS, FFN, CONTEXT, STEPS = 32_000, 384, 6, 6, 2048, 128, 4


class Layer(nn.Module):
    """A recursive layer: a projection of its own before each step, everything else shared."""

    def __init__(self, dropout):
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(STEPS))
        self.q, self.k, self.v = (nn.Linear(DIM, DIM, bias=False) for _ in range(3))
        self.o = nn.Linear(DIM, DIM)
        self.up, self.down = nn.Linear(DIM, FFN), nn.Linear(FFN, DIM)
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        # Present as in the original; a forced depth does not ask it.
        self.router = nn.Sequential(
            nn.Linear(DIM, DIM // 4), nn.GELU(), nn.Dropout(dropout), nn.Linear(DIM // 4, STEPS + 1)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, depth):
        batch, seq, _ = x.shape
        for projection in self.projections[:depth]:
            z = projection(x)
            q, k, v = (
                linear(z).view(batch, seq, HEADS, DIM // HEADS).transpose(1, 2)
                for linear in (self.q, self.k, self.v)
            )
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            attended = self.o(attended.transpose(1, 2).reshape(batch, seq, DIM))
            x = self.norm1(x + self.dropout(attended))
            fed = self.down(F.gelu(self.up(x)))
            x = self.norm2(x + self.dropout(fed))
        return x


class Technical(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCAB, DIM), nn.Embedding(CONTEXT, DIM)
        self.norm, self.final_norm = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(LAYERS))
        self.head = nn.Linear(DIM, VOCAB, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids, depth):
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x, depth)
        return self.head(self.final_norm(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seq", type=int, default=127)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)

    model = Technical(args.dropout).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=5e-4, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.01
    )
    seconds = []
    for _ in range(args.steps + 1):
        ids = torch.randint(1, VOCAB, (args.batch, args.seq + 1))
        start = time.perf_counter()
        logits = model(ids[:, :-1], args.depth)
        loss = F.cross_entropy(logits.reshape(-1, VOCAB), ids[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    seconds = sorted(seconds[1:])  # the first step allocates
    median = seconds[len(seconds) // 2]
    print(
        json.dumps(
            {
                "program": f"PyTorch {torch.__version__}",
                "depth": args.depth,
                "parameters": sum(p.numel() for p in model.parameters()),
                "tokens_per_second": args.batch * args.seq / median,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
