"""Trains a small byte-level language model with DistributedDataParallel.

    torchrun --nproc-per-node 2 examples/train_language_model.py

Treadle appears in one place only, the backend's name; "gloo" in its place runs the same program.
(Before torch 2.14 write `import treadle` first.) The text is what Python says about itself: the
documentation in the modules of its standard library.
"""
import argparse
import importlib
import pydoc

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

CONTEXT = 64
MODULES = ("argparse", "collections", "datetime", "decimal", "functools", "heapq", "itertools", "json", "logging",
           "os", "pathlib", "random", "re", "shutil", "socket", "string", "subprocess", "threading", "zipfile")  # fmt: skip


def corpus():
    text = "\n".join(pydoc.plain(pydoc.render_doc(importlib.import_module(name))) for name in MODULES)
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()


class LanguageModel(nn.Module):
    def __init__(self, width=96, heads=4, layers=2):
        super().__init__()
        self.bytes = nn.Embedding(256, width)
        self.positions = nn.Embedding(CONTEXT, width)
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 256)

    def forward(self, tokens):
        length = tokens.size(1)
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.bytes(tokens) + self.positions(torch.arange(length))
        return self.head(self.blocks(hidden, mask=mask, is_causal=True))


def sample(text, batch, generator):
    starts = torch.randint(len(text) - CONTEXT - 1, (batch,), generator=generator)
    windows = torch.stack([text[start : start + CONTEXT + 1] for start in starts.tolist()])
    return windows[:, :-1], windows[:, 1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="treadle")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=16, help="sequences per rank and step")
    arguments = parser.parse_args()

    dist.init_process_group(arguments.backend)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    text = corpus()
    model = DistributedDataParallel(LanguageModel())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    own_samples = torch.Generator().manual_seed(1 + rank)  # every rank reads elsewhere in the text

    if rank == 0:
        count = sum(p.numel() for p in model.parameters())
        print(f"{arguments.backend}, {ranks} ranks, {count:,} parameters, {len(text):,} bytes of text", flush=True)
    for step in range(arguments.steps + 1):
        inputs, targets = sample(text, arguments.batch, own_samples)
        loss = nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            mean = loss.detach().clone()
            dist.all_reduce(mean, dist.ReduceOp.AVG)
            if rank == 0:
                print(f"step {step:4d}  loss {mean.item():.3f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
