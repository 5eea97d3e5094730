"""A training step of `vit_base` in PyTorch: one case of `train_step.py`, which starts it.

    PYTHON benchmarks/compare_torch.py {eager,compiled} {float32,bfloat16} BATCH STEPS [cuda]

The same computation: 32x224x224 in patches of 4x16x16, DropToken 50 % before the projection, three
position tables with a layer norm, an aggregation token, 12 pre-norm blocks of 768 with exact gelu,
dropout 0.1 where ours has it (on probabilities inside `scaled_dot_product_attention`), a classifier
of 8 classes, gradient clipping at norm 1 and fused Adam. bfloat16 is autocast.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import nn
from torch.nn import functional
from train_step import serve

WIDTH, HEADS, LAYERS, INNER, RATE = 768, 12, 12, 3072, 0.1
GRID, PATCH = (8, 14, 14), (4, 16, 16)


class Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.back = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps tokens `[batch, tokens, width]`."""
        rows, length, _ = x.shape
        qkv = self.qkv(self.norms[0](x)).view(rows, length, 3, HEADS, WIDTH // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=RATE)
        mixed = mixed.transpose(1, 2).reshape(rows, length, WIDTH)
        x = x + functional.dropout(self.out(mixed), RATE)
        hidden = functional.dropout(functional.gelu(self.wide(self.norms[1](x))), RATE)
        return x + functional.dropout(self.back(hidden), RATE)


class Classifier(nn.Module):
    """`vit_base` and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        volume = 3 * PATCH[0] * PATCH[1] * PATCH[2]
        self.patches, self.head = nn.Linear(volume, WIDTH), nn.Linear(WIDTH, 8)
        self.tables = nn.ParameterList(torch.randn(n, WIDTH) * 0.02 for n in GRID)
        self.position_norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.final_norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.first = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Maps clips `[batch, frames, height, width, channels]` to logits."""
        (t, h, w), (pt, ph, pw) = GRID, PATCH
        patches = video.view(-1, t, pt, h, ph, w, pw, 3).permute(0, 1, 3, 5, 2, 4, 6, 7)
        kept = torch.randperm(t * h * w, device=video.device)[: t * h * w // 2]
        tokens = self.patches(patches.reshape(len(video), t * h * w, -1)[:, kept])
        a, b, c = self.tables
        places = (a[:, None, None] + b[:, None] + c).view(-1, WIDTH)
        tokens = tokens + functional.dropout(self.position_norm(places), RATE)[kept]
        x = torch.cat([self.first.expand(len(video), -1, -1), tokens], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(functional.dropout(self.final_norm(x)[:, 0], RATE))


def peak(dtype: torch.dtype, device: str) -> float:
    """Operations per second of plain matrix products."""
    side = 1536 if device == "cpu" else 8192
    x = torch.randn(side, side, device=device).to(dtype)
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    x @ x
    seconds = []
    for _ in range(4):
        wait()
        started = time.perf_counter()
        x @ x
        wait()
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds)


def main() -> None:
    """Answers `train_step.py` or `gpu_step.py`."""
    how, precision, batch, steps = *sys.argv[1:3], *map(int, sys.argv[3:5])
    device = sys.argv[5] if len(sys.argv) > 5 else "cpu"
    torch.manual_seed(0)
    model = Classifier().train().to(device)
    called = torch.compile(model) if how == "compiled" else model
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    video = torch.rand(batch, 32, 224, 224, 3, device=device) * 2 - 1
    labels = torch.arange(batch, device=device) % 8

    def run(count: int) -> None:
        for _ in range(count):
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = functional.cross_entropy(called(video), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        loss.item()  # waits for the device

    tokens = GRID[0] * GRID[1] * GRID[2] // 2 + 1
    dense = 2 * tokens * (4 * WIDTH**2 + 2 * WIDTH * INNER)
    forward = LAYERS * (dense + 4 * tokens**2 * WIDTH)
    forward += 2 * (tokens - 1) * 3 * PATCH[0] * PATCH[1] * PATCH[2] * WIDTH
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    about = {"flops": 3.0 * forward * batch, "clips": batch, "peak": peak(dtype, device)}
    serve(run, steps, about)


if __name__ == "__main__":
    main()
