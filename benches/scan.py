#!/usr/bin/env python3
"""`ckpt scan --json` over 1,000 and 10,000 checkpoints: without index, with a cold one, from the index; beside Python peers.

Needs a Python with torch; makes 1.3 GB of small checkpoints once. `python3 benches/scan.py [DATA] [--ckpt PROGRAM]`
"""

import sys

# In place of this directory, whose `inspect.py` would hide Python's own module of that name.
sys.path[0] += "/support"

import shutil  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import measure  # noqa: E402
from measure import Peer, megabytes, milliseconds  # noqa: E402

COUNTS = (1_000, 10_000)
SAMPLE = 50
# The index keeps no file that changed within two seconds before it was inspected.
SETTLE_SECONDS = 3


def make_tree(data: Path, count: int) -> Path:
    root = data / f"tree-{count}"
    if not root.exists():
        measure.make("tree", str(root), str(count))
        time.sleep(SETTLE_SECONDS)
    return root


def scans(ckpt: Path, root: Path, data: Path) -> list[Peer]:
    """The three ways to scan; the one from the index finds what the cold one before it left."""
    cache = data / "cache"

    def forget() -> None:
        shutil.rmtree(cache, ignore_errors=True)

    command = [str(ckpt), "scan", "--json", str(root)]
    return [
        Peer("ckpt scan --no-index", [*command, "--no-index"]),
        Peer("ckpt scan, index empty", command, before=forget),
        Peer("ckpt scan, from the index", command),
    ]


def check(peer: Peer, data: Path, count: int) -> None:
    found = measure.answer(peer.command, data)["checkpoints"]
    told = [(item["epoch"], item["metrics"]["accuracy"], item["tensors"]["count"]) for item in found if item["valid"]]
    if len(told) != count or any(accuracy != 0.5 + epoch / 50 or tensors != 80 for epoch, accuracy, tensors in told):
        raise SystemExit(f"{peer.name} did not find {count} valid checkpoints with what was saved in them")


def row(peer: Peer, best: Peer) -> list[str]:
    return [
        peer.name,
        milliseconds(min(peer.wall)),
        milliseconds(min(peer.cpu)),
        megabytes(peer.rss_bytes),
        f"{peer.read_bytes:,}",
        f"{min(peer.wall) / min(best.wall):,.1f}",
        f"{min(peer.cpu) / min(best.cpu):,.1f}",
    ]


def extrapolated(none: Peer, sample: Peer, count: int) -> Peer:
    """What all files would cost, from a sample: the cost of starting once, the rest for every file."""
    whole = Peer(f"torch.load mmap, {SAMPLE} of {count:,} measured, extrapolated", [])
    for nothing, some, all_of_it in ((none.cpu, sample.cpu, whole.cpu), (none.wall, sample.wall, whole.wall)):
        all_of_it.append(min(nothing) + (min(some) - min(nothing)) * count / SAMPLE)
    whole.read_bytes = none.read_bytes + (sample.read_bytes - none.read_bytes) * count // SAMPLE
    whole.rss_bytes = sample.rss_bytes
    return whole


def main() -> None:
    given = measure.arguments(__doc__.splitlines()[0])
    print(measure.machine(given.ckpt), "\n")
    for count in COUNTS:
        root = make_tree(given.data, count)
        files = sorted(map(str, root.rglob("*.pth")))
        ours = scans(given.ckpt, root, given.data)
        for peer in ours:
            check(peer, given.data, count)
        zipped = Peer("zipfile + unpickler, one process", [sys.executable, str(measure.PEERS / "zip_unpickle.py"), *files])
        torch = [sys.executable, str(measure.PEERS / "torch_mmap.py")]
        peers = [*ours, zipped]
        measure.side_by_side(peers, given.rounds, given.data)
        if count == COUNTS[0]:
            none, sample = Peer("", torch), Peer("", [*torch, *files[:: count // SAMPLE]])
            measure.side_by_side([none, sample], 2, given.data)
            peers.append(extrapolated(none, sample, count))
        size = sum(Path(file).stat().st_size for file in files)
        print(f"{count:,} checkpoints of {size // count:,} bytes, {size / 1e6:,.0f} MB in all, best of {given.rounds}")
        columns = ["", "wall", "CPU", "peak RSS", "bytes read", "× wall of the index", "× CPU of the index"]
        measure.table(columns, [row(peer, ours[2]) for peer in peers])
        index = sum(part.stat().st_size for part in (given.data / "cache" / "ckpt" / "index").iterdir())
        print(f"the index takes {index:,} bytes\n", flush=True)


if __name__ == "__main__":
    main()
