"""Write the small imitation of a Kaggle session that the examples scan.

Every checkpoint is a genuine `torch.save` file of a tiny network with real Adam state;
the tree mixes the working directory, the old and the new dataset mounts, a notebook output,
a flat upload, an archive that Kaggle unpacked, a truncated file, an HTML error page and a
file whose pickle would run a shell command if something unpickled it.

    python make_kaggle_tree.py [--root DIR]     # default: ./kaggle next to this script
"""

import argparse
import json
import os
import shutil
import zipfile
from pathlib import Path

import torch
from torch import nn

OLD_MOUNT = "input/hmolqd/checkpoints"
NEW_MOUNT = "input/datasets/minh/hmolqd-run2/checkpoints"
NOTEBOOK = "input/notebooks/user123/hmolqd-training"
COMMAND = "touch /tmp/ckpt-was-executed"


class RunsCommand:
    """Pickles to a call of `os.system`; nothing runs while it is written."""

    def __reduce__(self):
        return os.system, (COMMAND,)


def trained(seed, steps=3):
    """A tiny network after a few real optimizer steps: (model, optimizer, loss)."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.randn(32, 16)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), x)
        loss.backward()
        optimizer.step()
    return model, optimizer, loss.item()


def history(first, last, best, offset=0.0):
    """Epoch records that climb to the accuracy `best` at the epoch `last`."""
    rows = []
    for epoch in range(first, last + 1):
        left = (last - epoch) / 100
        rows.append(
            {
                "epoch": epoch,
                "loss": round(0.30 + 2 * left + offset, 4),
                "accuracy": round(best - left, 4),
            }
        )
    return rows


def stage1(epoch, accuracy, optimizer_state=True):
    """A VQ-VAE checkpoint with the keys of the founding document."""
    model, optimizer, loss = trained(epoch)
    state = {
        "epoch": epoch,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "accuracy": accuracy,
        "loss": loss,
        "history": history(epoch - 4, epoch, accuracy),
    }
    if not optimizer_state:
        del state["optimizer_state_dict"]
    return state


def stage2(epoch, solvability):
    """A diffusion checkpoint: other keys, another metric."""
    model, optimizer, loss = trained(1000 + epoch)
    ema = {k: v.detach().clone() * 0.999 for k, v in model.state_dict().items()}
    return {
        "epoch": epoch,
        "diffusion_state_dict": model.state_dict(),
        "ema_diffusion_state_dict": ema,
        "optimizer_state_dict": optimizer.state_dict(),
        "solvability": solvability,
        "loss": loss,
    }


def main():
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=here / "kaggle")
    root = parser.parse_args().root
    shutil.rmtree(root, ignore_errors=True)

    def at(name):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def save(state, name):
        torch.save(state, at(name))

    def save_json(value, name):
        at(name).write_text(json.dumps(value, indent=1) + "\n")

    save(stage1(30, 0.84), "working/checkpoints/vqvae_pretrained.pth")
    save(stage2(10, 0.41), "working/checkpoints/checkpoint_0010.pth")
    save_json(history(21, 30, 0.84), "working/checkpoints/vqvae_history.json")

    save(stage1(40, 0.86), f"{OLD_MOUNT}/vqvae_pretrained.pth")
    at(f"{OLD_MOUNT}/corrupted_checkpoint.pth").write_text(
        "<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head>\n"
        "<body><h1>403 Forbidden</h1><p>The signed URL has expired.</p></body></html>\n"
    )
    save_json(history(26, 40, 0.86, 0.05), f"{OLD_MOUNT}/vqvae_history.json")

    save(stage1(45, 0.875), f"{NEW_MOUNT}/vqvae_pretrained.pth")
    save(stage2(50, 0.72), f"{NEW_MOUNT}/checkpoint_0050.pth")
    save(stage2(55, 0.73), f"{NEW_MOUNT}/checkpoint_0055.pth")
    cut = at(f"{NEW_MOUNT}/checkpoint_0055.pth")
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * 0.6)])

    save(stage2(100, 0.75), f"{NOTEBOOK}/checkpoints/final_model.pth")
    save(stage1(20, 0.80), f"{NOTEBOOK}/vqvae_pretrained.pth")
    save_json(history(11, 20, 0.80), f"{NOTEBOOK}/vqvae_history.json")

    save(stage1(35, 0.85, optimizer_state=False), "input/flat-upload/model_best.pth")

    # Kaggle unpacks uploads that look like zips; its unpacker drops dotfiles.
    packed = at("vqvae_old.pth.packed/vqvae_old.pth")
    torch.save(stage1(15, 0.78), packed)
    target = root / "input/datasets/minh/unpacked/vqvae_old.pth"
    with zipfile.ZipFile(packed) as archive:
        for name in archive.namelist():
            if not any(part.startswith(".") for part in name.split("/")):
                archive.extract(name, target)
    shutil.rmtree(packed.parent)

    bait = stage1(99, 0.99)
    bait["config"] = RunsCommand()
    save(bait, "input/datasets/mallory/free-weights/vqvae_pretrained.pth")


if __name__ == "__main__":
    main()
