"""Training pairs a second: evenreel's adapter training against a plain loop, taking turns in one process.

    python benchmarks/adapter_training.py --data DATA

The baseline does what a training script with diffusers does: the batch [f1, f2, f1, f2] of every pair goes whole
through autoencoder, text and vision tower at every step, then through the UNet with peft's LoRA in it; the same losses
follow. Both train the same LoRA and tokens on the same pairs, on frozen float32 models. "cached" is a later epoch, in
which evenreel remembers what the frozen towers said.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

from evenreel.adapters.adapter import Adapter
from evenreel.adapters.features import features_collected
from evenreel.adapters.prompt_tokens import PromptTokens
from evenreel.adapters.settings import AdapterSettings, LoraSettings
from evenreel.adapters.temporal_loss import temporal_loss
from evenreel.backbones import mini
from evenreel.backbones.clip import load_clip
from evenreel.backbones.families import load as load_backbone
from evenreel.training.adapter.noise import prepare
from evenreel.training.adapter.objective import training_in
from evenreel.training.adapter.settings import LossSettings
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import ShardedData

FORM = "noise-levels"
"""The loss that the plain loop can compute too, without the source's features."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="shards made by `evenreel data build --world`"
    )
    parser.add_argument("--model", default="mini")
    parser.add_argument("--pairs", type=int, default=2, help="in a batch")
    parser.add_argument("--batches", type=int, default=8, help="of each kind, a few of each in turn")
    options = parser.parse_args()

    where = str(mini.FOLDER) if options.model == "mini" else options.model
    backbone, clip = load_backbone(where, dtype="float32"), load_clip("mini")
    data = ShardedData(options.data)
    adapter = Adapter.of(
        backbone, AdapterSettings(lora=LoraSettings(scope="all")), vision_width=clip.vision_width
    ).to(backbone.device)
    settings = LossSettings(temporal=FORM)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-5)
    encoded = Encoded(backbone, clip.frame_tokens)

    def step(loss: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    with training_in(backbone, adapter, settings) as trainee:

        def ours(number: int) -> None:
            step(trainee(prepare(data.batch(number, options.pairs), encoded, settings))[0])

        def plain(number: int) -> None:
            batch = data.batch(number, options.pairs)
            frames = torch.cat([batch.frames, batch.frames], dim=1).flatten(0, 1).to(backbone.device)
            captions = [caption for caption in batch.captions for _ in range(4)]
            with torch.no_grad():
                latents = (
                    backbone.vae.encode(frames * 2 - 1).latent_dist.mean * backbone.vae.config.scaling_factor
                )
                tokens = backbone.text.tokenize(captions).to(backbone.device)
                text = backbone.text.text_encoder(tokens).last_hidden_state
                hidden = clip.frame_tokens(frames).clone()
            noise = torch.randn_like(latents)
            timesteps = torch.randint(500, 1000, (options.pairs, 2)).repeat_interleave(2, dim=1).flatten()
            alphas = torch.tensor(backbone.schedule.alphas_cumprod)[timesteps].view(-1, 1, 1, 1)
            noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
            with features_collected(backbone.unet) as features:
                output = backbone.unet(
                    noisy, timesteps, tokens_of(adapter).before(text, hidden), return_dict=False
                )[0]
                temporal = temporal_loss(FORM, list(features.values()), frames=2, levels=2)
            step(functional.mse_loss(output, noise) + 0.1 * temporal)

        seconds: dict[str, float] = dict.fromkeys(("plain", "evenreel, first epoch", "evenreel, cached"), 0.0)
        plain(0)  # what is made once
        ours(0)
        for number in range(1, options.batches + 1):
            for name, run in (("plain", plain), ("evenreel, first epoch", ours), ("evenreel, cached", ours)):
                seconds[name] += timed(run, number)
    for name, spent in seconds.items():
        rate = options.batches * options.pairs / spent
        print(f"{name:24} {rate:6.2f} pairs/s   {seconds['plain'] / spent:5.2f} x plain")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def tokens_of(adapter: Adapter) -> PromptTokens:
    """Its prompt tokens, which it has."""
    assert adapter.tokens is not None
    return adapter.tokens


def timed(run: Callable[[int], None], number: int) -> float:
    """CPU time on a CPU, which other programs do not lengthen; else the clock's."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    run(number)
    return clock() - start


if __name__ == "__main__":
    main()
