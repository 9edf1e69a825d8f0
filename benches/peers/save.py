"""Saves 25 random float32 tensors durably over the last file, as careful Python does; prints what it cost as JSON.

`save.py torch|safetensors DIRECTORY BYTES`
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def main() -> None:
    peer, directory, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    directory.mkdir(exist_ok=True)
    state = {f"layer.{index}.weight": torch.rand(size // 25 // 4) for index in range(25)}
    target = directory / ("last.pth" if peer == "torch" else "last.safetensors")
    temporary = target.with_suffix(".tmp")
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    if peer == "torch":
        torch.save(state, temporary)
    else:
        # It writes to a temporary of its own and renames that.
        save_file(state, temporary)
    sync(temporary)
    temporary.rename(target)
    sync(directory)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall_ms": wall * 1e3, "cpu_ms": cpu * 1e3, "extra_bytes": (after.ru_maxrss - before.ru_maxrss) * 1024}))


if __name__ == "__main__":
    main()
