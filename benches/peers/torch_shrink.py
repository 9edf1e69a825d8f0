"""A checkpoint without its optimizer, made with PyTorch and made durable: `IN OUT`, OUT a .pth or a .safetensors."""

import os
import sys

import torch
from safetensors.torch import save_file


def main(source: str, target: str) -> None:
    state = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    if target.endswith(".safetensors"):
        save_file(state["model_state_dict"], target)
    else:
        torch.save({key: value for key, value in state.items() if not key.startswith("optimizer")}, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
