#!/usr/bin/env bash
# `ckpt fetch` of a 1 GB checkpoint beside what it is made of: cp, sync, and reading source and copy for their digests.
#
# All on one file system, the source cached, the target new, every write made durable. b3sum reads the copy from the disk;
# `ckpt fetch` digests it from the page cache while the disk writes. Needs b3sum (`cargo install b3sum`), and once a Python
# with torch, which makes the file.
#
#     benches/fetch.sh [DATA] [CKPT]        PYTHON and ROUNDS from the environment
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
data=${1:-$repository/target/bench}
rounds=${ROUNDS:-5}
ckpt=${2:-}
if [[ -z $ckpt ]]; then
    cargo build --quiet --release --package ckpt-cli --manifest-path "$repository/Cargo.toml"
    ckpt=${CARGO_TARGET_DIR:-$repository/target}/release/ckpt
fi
command -v b3sum >/dev/null || { echo "b3sum is missing: cargo install b3sum" >&2; exit 2; }

mkdir -p "$data"
source=$data/training-1GB.pth
if [[ ! -e $source ]]; then
    "${PYTHON:-python3}" "$repository/benches/support/make.py" training "$source" 1_000_000_000
fi
target=$data/fetched
times=$(mktemp -d)
trap 'rm -rf "$times" "$target"' EXIT

# Runs a command and notes its real, user and system seconds.
timed() {
    local name=$1
    shift
    local TIMEFORMAT='%R %U %S'
    { time "$@" >/dev/null 2>"$times/errors"; } 2>>"$times/$name" || { cat "$times/errors" >&2; exit 1; }
}
# Nothing at the target, nothing left to write, the source cached.
prepare() {
    rm -rf "$target"
    mkdir -p "$target"
    sync
    cat "$source" >/dev/null
}
# Forgets the cached pages of a durable file.
uncache() { dd if="$1" iflag=nocache count=0 status=none; }
copy_durably() { cp --reflink=auto "$source" "$target/copy.pth" && sync "$target/copy.pth" "$target"; }
fetch() { env -u CKPT_TO XDG_CONFIG_HOME="$data" "$ckpt" fetch --quiet "$source" --to "$target"; }

for ((round = 0; round < rounds; round++)); do
    prepare
    timed copy copy_durably
    timed digest_source b3sum "$source"
    uncache "$target/copy.pth"
    timed digest_copy b3sum "$target/copy.pth"
    prepare
    timed fetch fetch
    cmp "$source" "$target/$(basename "$source")"
done

# The best of all rounds, as "wall cpu".
best() { awk 'NR == 1 || $1 < wall { wall = $1 } NR == 1 || $2 + $3 < cpu { cpu = $2 + $3 } END { print wall, cpu }' "$times/$1"; }
# Adds the two numbers of several lines.
total() { awk '{ wall += $1; cpu += $2 } END { print wall, cpu }'; }

one=$({ best copy; best digest_source; } | total)
both=$({ best copy; best digest_source; best digest_copy; } | total)
ours=$(best fetch)
row() { awk -v name="$1" -v ours="$ours" '{ split(ours, our); printf "| %-44s | %6.2f s | %6.2f s | %12.2f | %11.2f |\n", name, $1, $2, our[1] / $1, our[2] / $2 }' <<<"$2"; }

filesystem=$(df --output=fstype "$data" | tail -1)
echo "$("$ckpt" --version), $(b3sum --version), $(cp --version | head -1), $filesystem, $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
echo "$(stat --format %s "$source") bytes, best of $rounds"
echo
echo "|                                              | wall     | CPU      | ckpt, × wall | ckpt, × CPU |"
echo "| ---                                          | ---:     | ---:     | ---:         | ---:        |"
row "cp --reflink=auto; sync" "$(best copy)"
row "b3sum of the source, cached" "$(best digest_source)"
row "b3sum of the copy, from disk" "$(best digest_copy)"
row "cp, sync, digest of the source" "$one"
row "cp, sync, digests of source and copy" "$both"
row "ckpt fetch" "$ours"
