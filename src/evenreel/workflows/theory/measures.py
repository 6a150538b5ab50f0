"""The corrected bounds of the theory on the features, latents and errors of a real inversion."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from evenreel.backbones import Backbone, hooks, layers
from evenreel.diffusion.inversion import invert
from evenreel.inversions.bilateral import BilateralInversion
from evenreel.progress import Progress, silent, tracked
from evenreel.theory import filter as bilateral
from evenreel.theory import inversion, similarity
from evenreel.theory.filter import Bilateral
from evenreel.theory.measured import Measured, draw
from evenreel.types import Latents, PromptEmbeds


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A corrected bound at one place of a real run."""

    statement: str
    """Number, as C.7."""
    where: str
    measured: Measured
    note: str = ""
    estimate: bool = False
    """Whether the bound stands on an estimated Lipschitz constant, and so may be too small."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """An inverted clip: step k leads from `path[k]` at `levels[k]` to `path[k + 1]`; `timesteps[k]` is told."""

    backbone: Backbone
    prompt_embeds: PromptEmbeds
    timesteps: tuple[int, ...]
    """Ascending."""
    levels: tuple[float, ...]
    path: tuple[Latents, ...]

    def predict(self, timestep: int) -> Callable[[Tensor], Tensor]:
        """Return the noise predictor at one timestep."""
        return lambda latents: self.backbone.predict_noise(latents, timestep, self.prompt_embeds)

    def from_start(self, latents: Latents, **options: Any) -> Iterator[tuple[int, Latents]]:
        """Invert other latents the same way."""
        return invert(
            latents,
            lambda noisy, timestep: self.predict(timestep)(noisy),
            self.backbone.schedule,
            self.timesteps[::-1],
            **options,
        )


def inverted(
    backbone: Backbone, latents: Latents, prompt: str, steps: int, progress: Progress = silent
) -> Run:
    """Invert a clip and keep every step."""
    timesteps = backbone.schedule.timesteps(steps)[::-1]
    run = Run(
        backbone=backbone,
        prompt_embeds=backbone.embed([prompt]),
        timesteps=timesteps,
        levels=(backbone.schedule.final_alpha_cumprod, *map(backbone.schedule.alpha, timesteps)),
        path=(latents,),
    )
    noisy = [noisy.clone() for _, noisy in tracked(run.from_start(latents), progress, "invert a clip", steps)]
    return replace(run, path=(latents, *noisy))


def on_features(run: Run) -> Iterator[Finding]:
    """Measure C.3 on the decoder's self-attentions, halfway through the inversion."""
    step = len(run.timesteps) // 2
    kept: dict[str, Tensor] = {}
    with torch.no_grad(), _outputs_kept(run.backbone.unet, kept):
        run.predict(run.timesteps[step])(run.path[step])
    for name, output in kept.items():
        features = output.double().flatten(1)
        loss, smallest = similarity.temporal_loss(features).item(), similarity.smallest_norm(features)
        eta = 2 / similarity.lipschitz_bound(features)
        alike = similarity.cosines(features).mean().item()
        note = f"m {smallest:.4g}, L_temp {loss:.3g}, mean similarity {alike:.4f}, 2 / L {eta:.4g}"
        where = f"{block_of(name)}, t = {run.timesteps[step]}"
        yield Finding(statement="C.3", where=where, measured=similarity.largest_gradient(features), note=note)
        yield Finding(
            statement="C.3", where=where, measured=similarity.curvature(features, iterations=15), note=note
        )


def on_latents(run: Run, settings: BilateralInversion) -> Iterator[Finding]:
    """Measure C.7 at every timestep: what filtering does to frame 1's latents, with frame 0's as reference."""
    for step, timestep in enumerate(run.timesteps):
        reference, x = (run.path[step][frame].double().cpu() for frame in (0, 1))
        filtering = _reference_filter(settings, x)
        found: dict[str, list[Measured]] = {}
        lost = x.new_zeros(())
        for picture, wanted in zip(x, reference, strict=True):
            lost += (filtering(picture) - picture).square().sum()
            for measured in (
                bilateral.error_in_max_norm(filtering, picture, wanted),
                bilateral.error_in_two_norm(filtering, picture, wanted),
                *bilateral.norms_of_matrix(filtering, picture),
                bilateral.expansion(filtering, picture),
            ):
                found.setdefault(measured.what, []).append(measured)
        note = f"filtering takes {(lost.sqrt() / x.norm()).item():.1%} of the latents' norm"
        for same in found.values():
            yield Finding(
                statement="C.7", where=f"t = {timestep}, worst channel", measured=worst_of(same), note=note
            )


def lipschitz_by_step(run: Run, chosen: Sequence[int], iterations: int = 8) -> Iterator[tuple[int, float]]:
    """Return (step, largest stretch of small differences by the noise predictor there), at some steps of the run."""
    for step in chosen:
        eps = run.predict(run.timesteps[step])
        yield step, inversion.jacobian_norm(eps, run.path[step][:1], iterations=iterations)


def on_steps(run: Run, lipschitz: dict[int, float], settings: BilateralInversion) -> Iterator[Finding]:
    """Measure C.8 and C.9: the errors of this run against the products of its constants, up the schedule and down
    again."""
    known = {run.timesteps[step]: value for step, value in lipschitz.items()}
    each = [_interpolated(known, timestep) for timestep in run.timesteps]
    note = "l " + ", ".join(f"{value:.3g} at t = {timestep}" for timestep, value in known.items())
    start, end = run.path[0], run.path[-1]
    nudge = draw(*start[:1].shape, seed=0).to(start)
    nudge *= 1e-2 * start[:1].norm() / nudge.norm()
    *_, (_, nudged) = run.from_start(start[:1] + nudge)
    up, down = inversion.ddim_product(run.levels, each), inversion.printed_product(run.levels, each)
    returned = _printed_run(run, torch.cat([end[:2], nudged]))
    for way, bound, what, before, after in (
        ("deterministic inversion", up, "a small random error", nudge, nudged - end[:1]),
        (
            "deterministic inversion",
            up,
            "the difference of frames 0 and 1",
            start[1] - start[0],
            end[1] - end[0],
        ),
        ("eq. 12 back to clean", down, "a small error", nudged - end[:1], returned[2:] - returned[:1]),
        (
            "eq. 12 back to clean",
            down,
            "the difference of frames 0 and 1",
            end[1] - end[0],
            returned[1] - returned[0],
        ),
    ):
        grown = (after.norm() / before.norm()).item()
        measured = Measured(what=f"{way}: growth of {what}", value=grown, bound=bound)
        yield Finding(
            statement="C.9", where=f"{len(each)} steps", measured=measured, note=note, estimate=True
        )
    yield _filtered_run(run, each, settings, note)


@torch.no_grad()
def _printed_run(run: Run, latents: Latents) -> Latents:
    """Eq. 12 without noise, over the run's levels, from the noisiest down."""
    for timestep, (before, here) in reversed(list(zip(run.timesteps, pairwise(run.levels), strict=True))):
        latents = inversion.printed_step(latents, run.predict(timestep), before, here)
    return latents


def _filtered_run(run: Run, lipschitz: list[float], settings: BilateralInversion, note: str) -> Finding:
    """The error of an inversion that filters, against the same without a filter."""
    filtered = [run.path[0][:1]]
    filtered += [
        latents.clone()
        for _, latents in run.from_start(
            filtered[0], prefilter=lambda noisy, _: settings.filter_latents(noisy)
        )
    ]
    bound = 0.0
    for step, (level, target) in enumerate(pairwise(run.levels)):
        x, reference = filtered[step][0].double().cpu(), run.path[step][0].double().cpu()
        filtering = _reference_filter(settings, x)
        matrices = [filtering.matrix(picture) for picture in x]
        drift = math.sqrt(
            sum(
                (matrix @ picture.flatten() - picture.flatten()).square().sum().item()
                for matrix, picture in zip(matrices, reference, strict=True)
            )
        )
        root = math.sqrt(max(map(bilateral.column_sum, matrices)))
        bound = inversion.ddim_constant(level, target, lipschitz[step]) * (root * bound + drift)
    error = (filtered[-1] - run.path[-1][:1]).norm().item()
    share = error / run.path[-1][:1].norm().item()
    return Finding(
        statement="C.8", where=f"filtered at each of {len(lipschitz)} steps", estimate=True,
        note=f"{share:.0%} of the noise's norm; {note}",
        measured=Measured(what="distance of filtered from plain inversion", value=error, bound=bound),
    )  # fmt: skip


@contextmanager
def _outputs_kept(unet: Any, kept: dict[str, Tensor]) -> Generator[None]:
    """Keep what the decoder's self-attentions give, while inside."""
    with ExitStack() as stack:
        for name in layers.decoder_self_attentions(unet):
            keep = partial(_keep, kept, name)
            stack.enter_context(hooks.forward_hooked(layers.attention(unet, name), keep))
        yield


def _keep(kept: dict[str, Tensor], name: str, output: Tensor) -> Tensor:
    kept[name] = output
    return output


def _reference_filter(settings: BilateralInversion, latents: Tensor) -> Bilateral:
    return Bilateral.of(
        latents[0],
        kernel=settings.kernel,
        sigma_spatial=settings.sigma_spatial,
        sigma_intensity=settings.sigma_intensity,
        edge=settings.edge,
    )


def _interpolated(known: dict[int, float], timestep: int) -> float:
    """Straight lines between the known timesteps, level beyond them."""
    below = max((one for one in known if one <= timestep), default=min(known))
    above = min((one for one in known if one >= timestep), default=max(known))
    part = (timestep - below) / (above - below) if above > below else 0.0
    return known[below] + part * (known[above] - known[below])


def worst_of(measured: Sequence[Measured]) -> Measured:
    """Return the one that comes nearest to its bound, or breaks it."""
    return max(measured, key=lambda one: (not one.holds, one.value / max(one.bound, 1e-300)))


def block_of(name: str) -> str:
    """Return the block of a processor's full name, such as up_blocks.1.attentions.2."""
    return name.split(".transformer_blocks")[0]
