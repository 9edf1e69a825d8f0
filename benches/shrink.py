#!/usr/bin/env python3
"""`ckpt compact` and `ckpt convert` of a 1 GB checkpoint beside PyTorch and beside a copy of as many bytes, all durable.

Needs a Python with torch and safetensors; makes 1 GB once. `python3 benches/shrink.py [DATA] [--ckpt PROGRAM]`
"""

import subprocess
import sys
from pathlib import Path

sys.path[0] += "/support"

import measure  # noqa: E402
from measure import Peer, megabytes, milliseconds  # noqa: E402

CHECK = """
import sys, torch
from safetensors.torch import load_file
one, other = (load_file(path) if path.endswith('s') else torch.load(path, weights_only=True)['model_state_dict'] for path in sys.argv[1:])
assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
"""


def peers(given, source: Path, suffix: str, command: list[str]) -> list[Peer]:
    ours, theirs, copy = (given.data / f"shrunk-{name}{suffix}" for name in ("ckpt", "torch", "cp"))
    python = [sys.executable, str(measure.PEERS / "torch_shrink.py"), str(source), str(theirs)]
    program = [str(given.ckpt), command[0], str(source), str(ours), *command[1:]]
    copied = ["/bin/sh", "-c", 'cp --reflink=never "$1" "$2" && sync "$2"', "sh", str(ours), str(copy)]
    clean = lambda path: lambda: path.unlink(missing_ok=True)  # noqa: E731
    made = [Peer(f"`ckpt {' '.join(command)}`, to {suffix}", program, before=clean(ours))]
    if "--all" not in command:
        made.append(Peer("torch.load mmap, save, fsync", python, before=clean(theirs)))
    made.append(Peer("cp of what was written; sync", copied, before=clean(copy)))
    return made


def main() -> None:
    given = measure.arguments(__doc__.splitlines()[0])
    print(measure.machine(given.ckpt), "\n")
    source = given.data / "training-1GB.pth"
    if not source.exists():
        measure.make("training", str(source), "1_000_000_000")
    for suffix, command in ((".pth", ["compact"]), (".safetensors", ["convert"]), (".safetensors", ["convert", "--all"])):
        made = peers(given, source, suffix, command)
        measure.side_by_side(made, given.rounds, given.data)
        outputs = [given.data / f"shrunk-{name}{suffix}" for name in ("ckpt", "torch", "cp")]
        if "--all" not in command:
            subprocess.run([sys.executable, "-c", CHECK, *map(str, outputs[:2])], check=True)
        size = outputs[0].stat().st_size
        rows = [
            [
                peer.name,
                milliseconds(min(peer.cpu)),
                milliseconds(min(peer.wall)),
                megabytes(peer.rss_bytes),
                f"{min(peer.cpu) / min(made[0].cpu):.1f}",
                f"{min(peer.wall) / min(made[0].wall):.1f}",
            ]
            for peer in made
        ]
        print(f"{source.stat().st_size:,} bytes to {size:,}, best of {given.rounds}")
        measure.table(["", "CPU", "wall", "peak RSS", "× CPU", "× wall"], rows)
        print(flush=True)
        for path in outputs:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
