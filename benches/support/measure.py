"""Runs commands side by side and says what each cost: CPU time, peak memory, bytes read, wall time."""

import argparse
import ctypes
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent
REPOSITORY = BENCHES.parent
PEERS = BENCHES / "peers"
MAKER = BENCHES / "support" / "make.py"


def arguments(description: str) -> argparse.Namespace:
    """The command line that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", nargs="?", type=Path, default=REPOSITORY / "target" / "bench", help="where data is made and kept")
    parser.add_argument("--ckpt", type=Path, help="the program; built with cargo when not given")
    parser.add_argument("--rounds", type=int, default=5, help="how often all peers take their turn")
    given = parser.parse_args()
    if not importlib.util.find_spec("torch"):
        parser.error(f"{sys.executable} has no torch: run this with a Python that has")
    given.data = given.data.resolve()
    given.data.mkdir(parents=True, exist_ok=True)
    given.ckpt = (given.ckpt or build()).resolve()
    return given


def build() -> Path:
    """Builds the release program and gives its path, wherever cargo puts it."""
    command = ["cargo", "build", "--release", "--package", "ckpt-cli", "--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    programs = [json.loads(line).get("executable") for line in built.stdout.splitlines()]
    return Path(next(program for program in programs if program))


def environment(home: Path) -> dict[str, str]:
    """An environment in which no setting and no index of the user's takes part."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CKPT_")}
    return {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config")}


@dataclass
class Peer:
    """A command, how often it runs in each round, and what its runs cost."""

    name: str
    command: list[str]
    runs: int = 1
    before: object = None
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    read_bytes: int = 0
    rss_bytes: int = 0

    @property
    def mean_cpu(self) -> float:
        return sum(self.cpu) / len(self.cpu)


def side_by_side(peers: list[Peer], rounds: int, home: Path) -> None:
    """Lets the peers take turns, so that a busy moment of the machine hits all of them."""
    for _ in range(rounds):
        for peer in peers:
            for _ in range(peer.runs):
                run_once(peer, home)
    for peer in peers:
        peer.rss_bytes = max(peak_rss(peer, home) for _ in range(3 if peer.runs > 1 else 1))


def run_once(peer: Peer, home: Path) -> None:
    if peer.before:
        peer.before()
    nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    os.chdir(home)
    started = time.perf_counter()
    process = os.posix_spawn(peer.command[0], peer.command, environment(home), file_actions=nowhere)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    wall = time.perf_counter() - started
    # A process that has ended and was not yet waited for still tells what it read.
    counters = dict(line.split(": ") for line in Path(f"/proc/{process}/io").read_text().splitlines())
    _, status, usage = os.wait4(process, 0)
    if status != 0:
        raise SystemExit(f"failed with status {status}: {' '.join(peer.command)}")
    peer.wall.append(wall)
    peer.cpu.append(usage.ru_utime + usage.ru_stime)
    peer.read_bytes = int(counters["rchar"])


def peak_rss(peer: Peer, home: Path) -> int:
    """The peak of resident memory, in bytes.

    Linux counts into a process's peak what its parent had when it was started, and this interpreter has more than `ckpt`.
    So a shell (1 MB) starts the command and leaves it to this process.
    """
    become_subreaper = 36
    ctypes.CDLL(None, use_errno=True).prctl(become_subreaper, 1, 0, 0, 0)
    if peer.before:
        peer.before()
    start = ["/bin/sh", "-c", '"$@" >/dev/null 2>&1 & echo $!', "sh", *peer.command]
    while True:
        shell = subprocess.run(start, stdout=subprocess.PIPE, check=True, text=True, env=environment(home), cwd=home)
        try:
            _, status, usage = os.wait4(int(shell.stdout), 0)
            break
        except ChildProcessError:
            # The command ended before the shell did, which then waited for it itself.
            continue
    if status != 0:
        raise SystemExit(f"failed with status {status}: {' '.join(peer.command)}")
    return usage.ru_maxrss * 1024


def answer(command: list[str], home: Path) -> dict:
    """The JSON that a command prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment(home), cwd=home)
    return json.loads(done.stdout)


def bytes_from_disk(command: list[str], files: list[Path], home: Path) -> int:
    """What a command makes the system read of `files` when none of them is cached: read-ahead included."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment(home), cwd=home)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    counters = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
    process.wait()
    return int(counters["read_bytes"])


def make(*what: str) -> None:
    """Makes input with PyTorch, in a process of its own."""
    subprocess.run([sys.executable, str(MAKER), *what], check=True)


def machine(ckpt: Path) -> str:
    """What everything ran on, in one line."""
    models = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    version = subprocess.run([ckpt, "--version"], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} cores of {models[0] if models else platform.machine()}, Linux {platform.release()}, "
        f"{version}, Python {platform.python_version()}, torch {metadata.version('torch')}, load {load:.1f}"
    )


def table(columns: list[str], rows: list[list[str]]) -> None:
    """Prints a table that people and Markdown read alike."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:,.0f} ms"


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e8 else f"{count / 1e6:,.0f} MB"
