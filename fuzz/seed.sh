#!/bin/sh
# Fills corpus/ from the fixtures, which the real libraries wrote. The corpus is never committed.
set -eu
cd "$(dirname "$0")"
fixtures=../tests/fixtures

put() { # put TARGET FILE...
    target=$1
    shift
    mkdir -p "corpus/$target"
    for file; do
        # The path is part of the name: many fixtures are called model.safetensors.
        cp "$file" "corpus/$target/$(echo "${file#"$fixtures"/}" | tr / _)"
    done
}

for target in inspect_file zip_directory legacy; do
    find "$fixtures" -type f -size -64k \( -name '*.p*' -o -name '*.bin' -o -name '*.ckpt' -o -name 'no_suffix' \
        -o -name '*.safetensors' \) ! -name '*.py' | while read -r file; do put "$target" "$file"; done
done
find "$fixtures" -type f \( -name '*.pkl' -o -name .metadata \) | while read -r file; do put pickle "$file"; done
find "$fixtures" -type f -name '*.safetensors' -size -64k | while read -r file; do put safetensors "$file"; done
find "$fixtures" -type f \( -name '*.index.json' -o -name trainer_state.json \) | while read -r file; do
    put sharded_index "$file"
done
find "$fixtures/dcp" -type f -name .metadata | while read -r file; do put distributed "$file"; done
mkdir -p corpus/name
find "$fixtures" -type f -exec basename {} \; | sort -u | split -l 1 -a 3 - corpus/name/
# A manifest and a pointer up to their digests, which the target adds.
mkdir -p corpus/manifest
zeros=$(printf '%064d' 0)
printf '%s' '{"class": "resumable", "created": "2023-11-14T22:13:20Z", "directions": {"loss": "min"}, "epoch": 3,
  "files": {"model.safetensors": {"blake3": "'"$zeros"'", "bytes": 10}}, "metrics": {"loss": "NaN"}, "parent": null,
  "run_id": "r", "schema": "ckpt.manifest/1", "sequence": 7, "session_id": "s", "step": 1, "world_size": 1' >corpus/manifest/manifest
printf '%s' '{"checkpoint": "step-00000001", "direction": "min", "manifest": "'"$zeros"'", "metric": "loss",
  "schema": "ckpt.pointer/1", "sequence": 7, "step": 1, "value": 0.5' >corpus/manifest/pointer
