"""A clip made from text: into a file, or in memory."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from evenreel.backbones import Backbone
from evenreel.backbones.sharing import exclusive
from evenreel.errors import OutputError, argument
from evenreel.hosts.base import EditJob
from evenreel.outputs import Outputs
from evenreel.progress import Progress, silent
from evenreel.settings import GenerateSettings
from evenreel.types import Latents
from evenreel.video import Clip, VideoWriter
from evenreel.workflows.editing.computing.sizes import model_size
from evenreel.workflows.editing.computing.stages import Stages
from evenreel.workflows.editing.failures.memory_errors import memory_errors_explained
from evenreel.workflows.editing.failures.rescue import with_pictures_kept
from evenreel.workflows.editing.records import record
from evenreel.workflows.editing.records.record import FileResult, RecordedClip
from evenreel.workflows.editing.setup.callers import own_numbers
from evenreel.workflows.editing.setup.run_setup import (
    check_apart,
    control_clips,
    described_output,
    opened,
    recorded,
)


@dataclass(frozen=True, kw_only=True)
class GeneratedClip(RecordedClip):
    """A clip made from text. It has no source: the path in `info` is empty."""


@dataclass(frozen=True)
class Generation(Stages):
    """All that a clip made from text needs, ready."""

    kind: ClassVar[str] = "generate"

    settings: GenerateSettings

    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return (width, height) at which the model works, and of the result.

        Unless both sides are asked for, the shape is that of the control's clip, or a square.
        """
        clip = None if self.conditions is None else self.conditions.clip
        shape = (1, 1) if clip is None else (clip.width, clip.height)
        working = model_size(*shape, self.settings.size, self.backbone)
        return working, self.settings.size if isinstance(self.settings.size, tuple) else working

    def latents(self, size: tuple[int, int]) -> Latents:
        """Make latents of the clip at (width, height) `size`."""
        with self.completed():
            return self._made(size)

    def _made(self, size: tuple[int, int]) -> Latents:
        settings, backbone = self.settings, self.backbone
        settings.schedule.check(settings.frames)
        prompt, negative = self.embedded(settings.frames, settings.negative_prompt)
        # The model says itself what its latents are like.
        channels, height, width = backbone.encode(torch.zeros(1, 3, size[1], size[0])).shape[1:]
        with exclusive(backbone.unet), self.moved() as motion, self.adapted() as prefix:
            job = EditJob(
                shape=(settings.frames, channels, height, width),
                timesteps=self.timesteps,
                prompt_embeds=prompt,
                negative_prompt_embeds=negative,
                source_prompt_embeds=negative,
                prompts=self.written(settings.frames, ""),
                guidance_scale=self.guidance_scale,
                guidance_interval=self.guided_timesteps,
                seed=settings.seed,
                batch=settings.batch,
                control=self.control(size, 0, settings.frames),
                prefix=prefix,
                motion=motion,
            )
            return self.sample(job, "generate")

    def record(self, working: tuple[int, int]) -> dict[str, Any]:
        """Return what is written beside the clip."""
        frames = {"first": 0, "written": self.settings.frames}
        return {**recorded(self, working), "command": "generate", "frames": frames}


def generate_file(
    output: str | os.PathLike[str],
    settings: GenerateSettings,
    *,
    overwrite: bool = True,
    progress: Progress = silent,
    backbone: Backbone | None = None,
    download: bool = False,
) -> FileResult:
    """Make a clip from text in `output`, and write the record beside it.

    Examples:
        >>> settings = evenreel.GenerateSettings(prompt="a red circle rolling over grass", frames=2, steps=2)
        >>> evenreel.generate_file("circle.mp4", settings).record["model"]["name"]
        'mini'

    Both appear whole at the end, in place of earlier ones unless `overwrite` is false, or not at all. `backbone` is a
    model that is loaded already, in place of `settings.model`; `download` allows fetching one. Raises any
    EvenreelError.
    """
    target = Path(output)
    record_path = record.record_path(target)
    check_apart(control_clips(settings), target, record_path)
    if not overwrite:
        _check_free(target, record_path)
    with own_numbers(), memory_errors_explained(settings.host, None, settings.dtype, settings.device):
        stages = _opened(settings, backbone, progress, download=download)
        working, size = stages.sizes()
        if not target.suffix and settings.fps != GenerateSettings.fps:
            stages.notice("fps has no place in a folder of images")
        with (
            Outputs(target) as outputs,
            VideoWriter(target, *size, rate=settings.rate, outputs=outputs) as writer,
        ):
            latents = stages.latents(working)

            def write(writer: VideoWriter) -> Path:
                for pixels in stages.decode(latents, size):
                    writer.write(pixels)
                return writer.finish()

            try:
                finished = write(writer)
            except OutputError as error:
                raise with_pictures_kept(error, target, size, write, rate=settings.rate) from error
            values: dict[str, Any] = {**stages.record(working), "output": described_output(target, finished)}
            values["frames"] = {**values["frames"], "written": writer.held_count}
            values["warnings"] += writer.warnings
            record.add_record(outputs, values)
    return FileResult(target, outputs.paths[1], values)


def generate_clip(
    settings: GenerateSettings,
    *,
    progress: Progress = silent,
    backbone: Backbone | None = None,
    download: bool = False,
) -> GeneratedClip:
    """Make a clip from text in memory. Raises any EvenreelError."""
    with own_numbers(), memory_errors_explained(settings.host, None, settings.dtype, settings.device):
        stages = _opened(settings, backbone, progress, download=download)
        working, size = stages.sizes()
        frames = torch.cat(list(stages.decode(stages.latents(working), size)))
    made = GeneratedClip(
        **vars(Clip.from_frames(frames, settings.rate)),
        record=stages.record(working),
    )
    made.record["frames_sha256"] = record.digest_of(made)
    return made


def _opened(
    settings: GenerateSettings, backbone: Backbone | None, progress: Progress, *, download: bool
) -> Generation:
    settings.schedule.check(settings.frames)
    prompts = [*settings.schedule.texts, settings.negative_prompt]
    return opened(
        Generation,
        settings,
        backbone,
        progress,
        prompts=prompts,
        inversion=None,
        frames=settings.frames,
        download=download,
    )


def _check_free(target: Path, record_path: Path) -> None:
    for path in (target, record_path):
        if path.exists():
            raise OutputError(
                f"{path} exists and is not to be replaced; choose another {argument('output')}."
            )
