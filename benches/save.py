#!/usr/bin/env python3
"""Durable saves of a state of 1 GB beside dd, torch.save and safetensors, interleaved, each in its own process.

Needs a Python with torch and safetensors, 4 GB of disk and 1 GB of /dev/shm. `python3 benches/save.py [DATA] [--ckpt PROGRAM]`;
the program `saver` is looked for beside ckpt: `cargo build --release --workspace`.
"""

import sys

sys.path[0] += "/support"

import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import measure  # noqa: E402

SIZE = 1_000_000_000


def dd(source: Path, target: Path, *options: str) -> dict:
    """The same bytes to a new file: dd has nothing to replace."""
    target.unlink(missing_ok=True)
    os.sync()
    before = os.times()
    started = time.perf_counter()
    subprocess.run(["dd", f"if={source}", f"of={target}", "bs=4M", "status=none", *options], check=True)
    wall = time.perf_counter() - started
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_ms": wall * 1e3, "cpu_ms": cpu * 1e3, "extra_bytes": 0}


def program(*command: str) -> list[dict]:
    os.sync()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def row(name: str, rounds: list[dict], reference: float) -> None:
    walls = [one["wall_ms"] for one in rounds]
    cpu = statistics.median(one["cpu_ms"] for one in rounds)
    extra = max(one["extra_bytes"] for one in rounds) / 1e6
    best, median = min(walls), statistics.median(walls)
    print(f"| {name:<38} | {best:7.0f} ms | {median:7.0f} ms | {cpu:6.0f} ms | {extra:6.1f} MB | {median / reference:5.2f} |")


def main() -> None:
    given = measure.arguments(__doc__.splitlines()[0])
    saver = str(given.ckpt.parent / "saver")
    print(measure.machine(given.ckpt), "\n")
    place = given.data / "save"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    source = Path("/dev/shm/ckpt-bench-source")
    with source.open("wb") as file:
        for _ in range(SIZE // 1_000_000):
            file.write(os.urandom(1_000_000))
    peers = {
        "dd bs=4M conv=fsync": lambda: [dd(source, place / "dd", "conv=fsync")],
        "dd bs=4M oflag=direct": lambda: [dd(source, place / "dd", "oflag=direct")],
        "torch.save, fsync, rename": lambda: program(sys.executable, str(measure.PEERS / "save.py"), "torch", str(place / "torch"), str(SIZE)),
        "safetensors, fsync, rename": lambda: program(sys.executable, str(measure.PEERS / "save.py"), "safetensors", str(place / "st"), str(SIZE)),
        "ckpt, a directory": lambda: program(saver, "sync", str(place / "sync"), str(SIZE), "1"),
        "ckpt, a single file in place": lambda: program(saver, "single", str(place / "single"), str(SIZE), "1"),
    }
    results: dict[str, list[dict]] = {name: [] for name in peers}
    for turn in range(given.rounds + 1):
        for name, run in peers.items():
            measured = run()
            # The first turn has nothing to replace.
            if turn > 0:
                results[name] += measured
    source.unlink()
    reference = statistics.median(one["wall_ms"] for one in results["ckpt, a directory"])
    print(f"| {'1 GB':<38} | best wall  | median     | CPU       | memory    | × ckpt |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, rounds in results.items():
        row(name, rounds, reference)
    held = program(saver, "async", str(place / "async"), str(SIZE), str(given.rounds + 1))
    print("\nAsynchronous:", json.dumps([{key: round(one[key]) for key in ("held_ms", "memcpy_ms", "wall_ms")} for one in held]))
    memory = Path("/dev/shm/ckpt-bench-empty")
    for name, root in {"this disk": place / "empty", "memory": memory}.items():
        rounds = program(saver, "empty", str(root), "0", "50")
        costs = [one["wall_ms"] - one["syncs_ms"] for one in rounds]
        syncs = statistics.median(one["syncs_ms"] for one in rounds)
        print(f"An empty save on {name}: median {statistics.median(costs):.2f} ms beyond its fsyncs of {syncs:.2f} ms")
    opened = program(saver, "open", str(memory / "many"), "10000", "10")
    print(f"Opening a root of 10,000: best {min(one['wall_ms'] for one in opened):.1f} ms, median {statistics.median(one['wall_ms'] for one in opened):.1f} ms")
    shutil.rmtree(memory)
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
