"""Makes the benchmarks' input with a real PyTorch."""

import shutil
import sys
from pathlib import Path

import torch


def trained(layers: int, width: int) -> dict:
    """The state of a model and its Adam after one step: four storages for every parameter."""
    model = torch.nn.Sequential(*[torch.nn.Linear(width, width) for _ in range(layers)])
    optimizer = torch.optim.Adam(model.parameters(), foreach=False)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    return {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "epoch": 45, "accuracy": 0.875}


def save(state: dict, path: Path) -> None:
    temporary = path.with_suffix(".making")
    torch.save(state, temporary)
    temporary.rename(path)


def training(path: str, size: str) -> None:
    """A checkpoint of about `size` bytes in 1,200 storages."""
    layers = 150
    # Weight, its two moments, four bytes each.
    width = int((int(size) / (layers * 3 * 4)) ** 0.5)
    save(trained(layers, width), Path(path))


def history(path: str, records: str) -> None:
    """A small model with a long list of what every step gave."""
    state = trained(layers=2, width=8)
    state["history"] = [
        {"epoch": step // 1000, "step": step, "loss": 1 / (step + 1), "accuracy": step / 5e5, "lr": 1e-3, "time": step * 0.25}
        for step in range(int(records))
    ]
    save(state, Path(path))


def tree(directory: str, count: str) -> None:
    """`count` small checkpoints, a hundred to a directory, each a file of its own."""
    root = Path(directory)
    unfinished = root.with_suffix(".making")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    originals = []
    for epoch in range(20):
        state = {**trained(layers=10, width=24), "epoch": epoch, "accuracy": 0.5 + epoch / 50}
        originals.append(unfinished / f"original-{epoch}.pth")
        save(state, originals[-1])
    for number in range(int(count)):
        run = unfinished / f"run-{number // 100:03}"
        run.mkdir(exist_ok=True)
        shutil.copyfile(originals[number % len(originals)], run / f"checkpoint_{number % 100:03}.pth")
    for original in originals:
        original.unlink()
    unfinished.rename(root)


if __name__ == "__main__":
    {"training": training, "history": history, "tree": tree}[sys.argv[1]](*sys.argv[2:])
