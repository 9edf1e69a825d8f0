"""What a checkpoint says, with the cheapest safe call of PyTorch: weights only, memory-mapped."""

import json
import sys

import torch


def tensors(value):
    if isinstance(value, torch.Tensor):
        return 1
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(map(tensors, inner))


def read(path):
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {"epoch": state["epoch"], "accuracy": state["accuracy"], "keys": list(state), "tensors": tensors(state)}


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(json.dumps(read(path)))
