#!/usr/bin/env python3
"""`ckpt inspect --json` beside Python's zipfile and beside torch.load, each as a whole process.

Needs a Python with torch; makes 5 GB of checkpoints once. `python3 benches/inspect.py [DATA] [--ckpt PROGRAM]`
"""

import sys

# In place of this directory, whose `inspect.py` would hide Python's own module of that name.
sys.path[0] += "/support"

import zipfile  # noqa: E402
from pathlib import Path  # noqa: E402

import measure  # noqa: E402
from measure import Peer, megabytes, milliseconds  # noqa: E402

FILES = {
    "training-100MB.pth": ("training", "100_000_000"),
    "training-1GB.pth": ("training", "1_000_000_000"),
    "training-4GB.pth": ("training", "4_000_000_000"),
    "history-400k.pth": ("history", "400_000"),
}
ALLOWANCE = 64 << 10


def must_be_read(path: Path) -> int:
    """The bytes that hold what is asked for: the archive's directory, from its start to the file's end, and `data.pkl`."""
    with zipfile.ZipFile(path) as archive:
        pickle = next(member for member in archive.infolist() if member.filename.endswith("/data.pkl"))
        return path.stat().st_size - archive.start_dir + pickle.file_size


def check_equal(ours: dict, theirs: list[dict]) -> None:
    told = {"epoch": ours["epoch"], "accuracy": ours["metrics"]["accuracy"], "keys": ours["keys"], "tensors": ours["tensors"]["count"]}
    for other in theirs:
        if other != told:
            raise SystemExit(f"they do not say the same:\n{told}\n{other}")


def main() -> None:
    given = measure.arguments(__doc__.splitlines()[0])
    print(measure.machine(given.ckpt), "\n")
    for name, (kind, size) in FILES.items():
        path = given.data / name
        if not path.exists():
            measure.make(kind, str(path), size)
        ours = Peer("ckpt inspect --json", [str(given.ckpt), "inspect", "--json", str(path)], runs=40)
        zipped = Peer("zipfile + unpickler", [sys.executable, str(measure.PEERS / "zip_unpickle.py"), str(path)], runs=4)
        torch = Peer("torch.load mmap", [sys.executable, str(measure.PEERS / "torch_mmap.py"), str(path)])
        if kind == "history":
            ours.runs = 4
            zipped.runs = 2
        peers = [ours, zipped, torch]
        said = [measure.answer(peer.command, given.data) for peer in peers]
        check_equal(said[0], said[1:])
        measure.side_by_side(peers, given.rounds, given.data)
        needed = must_be_read(path)
        rows = []
        for peer in peers:
            from_disk = measure.bytes_from_disk(peer.command, [path], given.data)
            rows.append([
                peer.name,
                milliseconds(peer.mean_cpu),
                milliseconds(min(peer.cpu)),
                milliseconds(min(peer.wall)),
                megabytes(peer.rss_bytes),
                f"{peer.read_bytes:,}",
                f"{from_disk:,}",
                f"{peer.mean_cpu / ours.mean_cpu:,.1f}",
                f"{min(peer.cpu) / min(ours.cpu):,.1f}",
                str(len(peer.cpu)),
            ])
        print(f"{name}: {path.stat().st_size:,} bytes, {said[0]['tensors']['count']:,} tensors")
        measure.table(
            ["", "CPU mean", "CPU min", "wall min", "peak RSS", "bytes read", "from disk, cold", "× mean", "× min", "runs"], rows
        )
        read = said[0]["bytes_read"]
        verdict = "within" if read <= needed + ALLOWANCE else "ABOVE"
        print(f"ckpt read {read:,} bytes of it; directory + data.pkl = {needed:,}; {verdict} that + 64 KiB\n", flush=True)


if __name__ == "__main__":
    main()
