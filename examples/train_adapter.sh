#!/usr/bin/env bash
# Train an adapter for Stable Diffusion 1.5 on clips of your own, and edit with it:
#   examples/train_adapter.sh CLIPS [MODEL] [SIZE] [OPTIONS OF THE TRAINING ...]
# CLIPS is a folder of clips with captions (docs/data.md). Stopped and started again, every step goes on where it was.
set -euo pipefail
clips=$1 model=${2:-stable-diffusion-v1-5/stable-diffusion-v1-5} size=${3:-512}
shift $(($# < 3 ? $# : 3))

evenreel data build "$clips" --size "$size" -o data
evenreel train adapter data --model "$model" -o runs/adapter "$@"
evenreel edit "$(ls "$clips"/*.mp4 | head -1)" --model "$model" --adapter runs/adapter/adapter.safetensors --frames 0:6 \
    --size "$size" --prompt "a watercolour painting" -o painted.mp4
