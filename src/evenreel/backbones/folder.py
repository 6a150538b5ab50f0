"""A diffusers model folder: whether it is whole, which files hold its weights, and by which hash it is known again."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from evenreel.backbones import configs, safetensors_file
from evenreel.backbones.recognise import PURPOSES, recognise, used_as
from evenreel.backbones.safetensors_file import read_header
from evenreel.errors import WeightsError, argument

PARTS = {
    "unet": ("UNet2DConditionModel", "diffusion_pytorch_model"),
    "vae": ("AutoencoderKL", "diffusion_pytorch_model"),
    "text_encoder": ("CLIPTextModel", "model"),
}
"""For each part with weights: the class that it must be, and the stem of its file."""
SCHEMAS: Mapping[str, type[configs.Schema]] = MappingProxyType(
    {
        "UNet2DConditionModel": configs.UNetSchema,
        "AutoencoderKL": configs.AutoencoderSchema,
        "CLIPTextModel": configs.TextSchema,
        "CLIPTextModelWithProjection": configs.ProjectedTextSchema,
        "ControlNetModel": configs.ControlNetSchema,
        "CLIPModel": configs.ClipSchema,
        "ViTModel": configs.VisionSchema,
    }
)
"""For each class that is loaded: what its configuration may say."""
_CHECKSUMS = "SHA256SUMS"
_TRUSTED = ("diffusers", "transformers", None)
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_OTHER_PIPELINES = {
    "StableDiffusionXLInpaintPipeline": "a Stable Diffusion XL model for inpainting",
    "StableDiffusionInpaintPipeline": "a Stable Diffusion model for inpainting",
    "StableDiffusionInstructPix2PixPipeline": "an instruct-pix2pix model",
    "StableDiffusionUpscalePipeline": "a model for upscaling",
    "StableDiffusionDepth2ImgPipeline": "a depth-to-image model",
    "StableDiffusion3Pipeline": "a Stable Diffusion 3 model",
    "FluxPipeline": "a Flux model",
    "WanPipeline": "a Wan video model",
    "StableVideoDiffusionPipeline": "a Stable Video Diffusion model",
    "LatentConsistencyModelPipeline": "a latent consistency model, which takes its guidance inside",
}
"""Folders of these pipelines, in words."""
_OTHER_FOLDERS = {
    "AutoencoderKL": ("an autoencoder", f"give it as {argument('vae')}, beside a model"),
    "ControlNetModel": ("a ControlNet", f"give it as {argument('control')}, beside a model"),
    "MotionAdapter": ("a set of motion modules", f"give it as {argument('motion')}, beside a model"),
    "UNet2DConditionModel": ("the UNet of a model", "give the folder above it"),
}
"""Folders of one network, in words, and what to do with them."""
_SCHEDULERS = re.compile(
    r"(DDIM|DDPM|PNDM|LMSDiscrete|EulerDiscrete|EulerAncestralDiscrete|HeunDiscrete|KDPM2Discrete|KDPM2AncestralDiscrete"
    r"|DPMSolver(Multistep|Singlestep|SDE)|DEISMultistep|UniPCMultistep|SASolver|DDIMInverse|DDIMParallel|DDPMParallel)"
    r"Scheduler"
)
"""Those whose noise levels are given by betas; the steps between levels are always those of DDIM."""
_PREFERRED = ("", "fp16", "bf16")
"""Variants of weights, the best first."""


@dataclass(frozen=True)
class ModelFolder:
    """A Stable Diffusion model in diffusers' layout, checked before anything of it is loaded."""

    parts: ClassVar[Mapping[str, tuple[str, str]]] = PARTS
    """What has weights in it."""
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    """Folders of tokenizers."""
    wanted: ClassVar[str] = "a Stable Diffusion 1.x, 2.x or XL model"
    """What to use instead of something else."""
    notices: ClassVar[tuple[str, ...]] = ()
    """What has to be assumed of it: nothing, a folder says all."""
    gigabytes: ClassVar[float] = 4
    """What fetching one takes, about."""

    path: Path
    """Holds unet, vae, text_encoder, tokenizer and scheduler."""

    def check(self) -> None:
        """Raise WeightsError unless every part is there, whole, of a known class, and free of code."""
        self.check_kind()
        self._check_weights()
        for name in self.tokenizers:
            if not (self.path / name).is_dir():
                raise WeightsError(f"{self.path}: the {name} folder is missing; fetch the model again.")
        self.check_sums()

    def check_kind(self) -> None:
        """Raise WeightsError unless the configurations are those of a model that can be used; no weights are needed."""
        index = read_json(self.path / "model_index.json") if (self.path / "model_index.json").exists() else {}
        self._check_is_model(index)
        self._check_trusted(index)
        for part, (class_name, _) in self.parts.items():
            self._check_class(part, class_name)
        self._check_unet()
        check_scheduler(self.path, self.config("scheduler", "scheduler_config.json"))

    def config(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """Return a part's configuration. Raises: WeightsError when it is missing or damaged."""
        return read_json(self.path / part / name)

    def variant(self, part: str) -> str | None:
        """Return the variant of a part's weights that is read, such as `fp16`; None for the plain ones."""
        return self._index_or_file(part)[1] or None

    def weight_files(self, part: str) -> tuple[Path, ...]:
        """Return the safetensors files of a part. Raises: WeightsError when there are none, or only pickles."""
        found, _ = self._index_or_file(part)
        return self._shards(found) if found.suffix == ".json" else (found,)

    @cached_property
    def weights_fingerprint(self) -> str:
        """Hash of all weights; the names of files count, their dates and places do not."""
        total = hashlib.sha256()
        for part in self.parts:
            for file in self.weight_files(part):
                total.update(f"{part}/{file.name} {safetensors_file.sha256(file)}\n".encode())
        return total.hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides what the model does: weights, configurations, scheduler, tokenizer."""
        total = hashlib.sha256(f"{self.weights_fingerprint}\n".encode())
        for file in self._deciding_files():
            if file.name.endswith("config.json"):  # how it is laid out does not matter
                content = json.dumps(read_json(file), sort_keys=True).encode()
            else:
                content = file.read_bytes()
            name = file.relative_to(self.path).as_posix()
            total.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
        if decided := self.decided():
            total.update(f"{json.dumps(decided, sort_keys=True)}\n".encode())
        return total.hexdigest()

    def decided(self) -> dict[str, Any]:
        """Return what else decides what the model does, besides its parts."""
        return {}

    def _deciding_files(self) -> list[Path]:
        """Configurations and vocabularies, in the order of their names."""
        own = [self.path / part / "config.json" for part in self.parts]
        words = [file for name in self.tokenizers for file in (self.path / name).glob("*")]
        schedule = self.path / "scheduler" / "scheduler_config.json"
        return sorted(
            file for file in (*own, schedule, *words) if file.is_file() and not file.name.startswith(".")
        )

    def _index_or_file(self, part: str) -> tuple[Path, str]:
        """The file of a part's weights, or the index of its shards; and its variant, empty for the plain one."""
        folder, stem = self.path / part, re.escape(self.parts[part][1])
        pattern = re.compile(
            rf"{stem}(?:\.(?P<file>\w+))?\.safetensors|{stem}\.safetensors\.index(?:\.(?P<index>\w+))?\.json"
        )
        found: dict[str, Path] = {}
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if match := pattern.fullmatch(file.name):
                found.setdefault(match["file"] or match["index"] or "", file)
        for variant in _PREFERRED:
            if variant in found:
                return found[variant], variant
        if len(found) == 1:
            variant, file = found.popitem()
            return file, variant
        if found:
            raise WeightsError(
                f"{folder}: holds several variants of the weights ({', '.join(sorted(found))}) and not the plain one; "
                "leave one of them there."
            )
        if folder.is_dir() and any(file.suffix in _PICKLES for file in folder.iterdir()):
            raise WeightsError(
                f"{folder}: the weights are pickled, and pickles can run code when loaded; "
                "use a copy of the model with safetensors files."
            )
        raise WeightsError(f"{folder / self.parts[part][1]}.safetensors is missing; fetch the model again.")

    def _shards(self, index: Path) -> tuple[Path, ...]:
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict) or not places or not all(isinstance(n, str) for n in places.values()):
            raise WeightsError(f"{index}: names no files of weights; fetch the model again.")
        names = sorted(set(places.values()))
        if any(Path(name).name != name for name in names):
            raise WeightsError(f"{index}: names files outside its folder; this model is not safe to load.")
        return tuple(index.parent / name for name in names)

    def _check_weights(self) -> None:
        for part in self.parts:
            for file in self.weight_files(part):
                safetensors_file.read_header(file).check_floats()

    def _check_class(self, part: str, class_name: str) -> None:
        config, where = self.config(part), self.path / part
        named = config.get("architectures")
        found = config.get("_class_name") or (named[0] if isinstance(named, list) and named else class_name)
        if found != class_name or "auto_map" in config:
            raise WeightsError(
                f"{where}: must be a plain {class_name}, got {str(found)[:60]}; use {self.wanted}."
            )
        if class_name in SCHEMAS:
            configs.checked(SCHEMAS[class_name], config, where / "config.json")

    def _check_unet(self) -> None:
        check_unet(self.path, self.config("unet"), self.config("vae").get("latent_channels", 4))

    def _check_is_model(self, index: Mapping[str, Any]) -> None:
        """Say of a folder of another kind what it is, not what it lacks."""
        pipeline = index.get("_class_name")
        if isinstance(pipeline, str) and pipeline in _OTHER_PIPELINES:
            raise WeightsError(f"{self.path}: is {_OTHER_PIPELINES[pipeline]}; use {self.wanted}.")
        if (self.path / "unet").is_dir():
            return
        if not (self.path / "config.json").is_file():
            if not index:
                self._check_not_of_files()
            return
        found = read_json(self.path / "config.json").get("_class_name")
        said, advice = _OTHER_FOLDERS.get(str(found), (f"a {found}", f"use {self.wanted}"))
        if found is not None:
            raise WeightsError(f"{self.path}: is {said}, not a whole model; {advice}.")

    def _check_not_of_files(self) -> None:
        """Say of a folder that holds whole files of weights, such as LoRAs, what the first of them is."""
        for file in sorted(self.path.glob("*.safetensors"))[:1]:
            found = recognise(read_header(file))
            setting = used_as(found)
            advice = f"give that file as {argument(setting)}" if setting else f"use {self.wanted}"
            raise WeightsError(
                f"{self.path}: is not a whole model but a folder with {file.name}, which is {found.said}; {advice}."
            )

    def _check_trusted(self, index: Mapping[str, Any]) -> None:
        for part, origin in index.items():
            if part in (*self.parts, *self.tokenizers, "scheduler") and (
                not isinstance(origin, list) or not origin or origin[0] not in _TRUSTED
            ):
                raise WeightsError(
                    f"{self.path}: {part} wants to run code of the model's own, which is refused."
                )

    def check_sums(self, *, complete: bool = False) -> None:
        """Compare files with the SHA256SUMS beside them, if any: safetensors loads flipped bits silently.

        An empty list is an error; `complete` wants the list to be there, and all files on it that decide what the model
        does. Raises: WeightsError.
        """
        sums = self.path / _CHECKSUMS
        if not sums.exists() and not complete:
            return
        listed = _read_sums(sums)
        for name, expected in listed.items():
            if not (self.path / name).is_file() or safetensors_file.sha256(self.path / name) != expected:
                raise WeightsError(
                    f"{self.path / name}: differs from its checksum in {_CHECKSUMS}; fetch it again."
                )
        if not listed:
            raise WeightsError(f"{sums}: is empty; fetch the model again.")
        weights = [file for part in self.parts for file in self.weight_files(part)]
        for file in [*weights, *self._deciding_files()] if complete else ():
            if file.relative_to(self.path).as_posix() not in listed:
                raise WeightsError(f"{sums}: has no checksum of {file.name}; fetch the model again.")


class PartFolder(ModelFolder):
    """A network by itself in diffusers' or transformers' layout: one part, which is the folder itself."""

    def check(self) -> None:
        """Raise WeightsError unless the weights are there, whole, of a known class, and free of code."""
        if not self.path.is_dir():
            raise WeightsError(
                f"{self.path} is not a folder; give {self.wanted}, by the folder that it was fetched into (hf "
                "download NAME --local-dir FOLDER)."
            )
        self.check_kind()
        self._check_weights()
        self.check_sums()

    def check_kind(self) -> None:
        """Raise WeightsError unless the configuration is that of such a network; no weights are needed."""
        for part, (class_name, _) in self.parts.items():
            self._check_class(part, class_name)


class ControlFolder(PartFolder):
    """A ControlNet in diffusers' layout: one part, which is the folder itself."""

    parts = MappingProxyType({"": ("ControlNetModel", "diffusion_pytorch_model")})
    wanted = "a ControlNet made for the model"
    gigabytes = 1.4


class AutoencoderFolder(PartFolder):
    """An autoencoder in diffusers' layout: one part, which is the folder itself."""

    parts = MappingProxyType({"": ("AutoencoderKL", "diffusion_pytorch_model")})
    wanted = "an autoencoder for Stable Diffusion"
    gigabytes = 0.3


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file. Raises: WeightsError when it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing; fetch the model again.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON; fetch the model again.") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: holds no JSON object; fetch the model again.")
    return value


def _read_sums(path: Path) -> dict[str, str]:
    """Checksums by file name, as `sha256sum` writes them. Raises: WeightsError for what is not such a list."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read; fetch it again.") from error
    found: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](?P<name>\S.*)", line)
        if match is None or Path(match["name"]).is_absolute() or ".." in Path(match["name"]).parts:
            raise WeightsError(f"{path}: is not a list of checksums ({line[:40]!r}); fetch it again.")
        found[match["name"]] = match[1]
    return found


def check_unet(where: Path, config: Mapping[str, Any], latent_channels: int) -> None:
    """Raise WeightsError for a UNet that takes more than noise, a timestep and a text."""
    if config.get("addition_embed_type"):
        raise WeightsError(
            f"{where}: takes more than noise, a timestep and a text (addition_embed_type); use a plain text-to-image "
            "model."
        )
    check_inputs(where, config, latent_channels)


def check_inputs(where: Path, config: Mapping[str, Any], latent_channels: int) -> None:
    """Raise WeightsError for a UNet that takes pictures, classes or guidance inside, whatever its family."""
    if (channels := config.get("in_channels", 4)) != latent_channels:
        purpose = PURPOSES.get(channels, f"inputs of {channels} channels")
        raise WeightsError(f"{where}: is a model for {purpose}; use a plain text-to-image model.")
    for name, said in (
        ("time_cond_proj_dim", "takes its guidance inside (a latent consistency model)"),
        ("class_embed_type", "takes classes or pictures besides the prompt"),
        ("num_class_embeds", "takes classes or noise levels besides the prompt"),
        ("encoder_hid_dim", "takes pictures in the place of the prompt"),
    ):
        if config.get(name) is not None:
            raise WeightsError(f"{where}: {said} ({name}); use a plain text-to-image model.")


def check_scheduler(where: Path, config: Mapping[str, Any]) -> None:
    """Raise WeightsError for a schedule that DDIM cannot follow, by the name of its class or of its entry."""
    name = config.get("_class_name", "DDIMScheduler")
    if not isinstance(name, str) or not _SCHEDULERS.fullmatch(name):
        raise WeightsError(
            f"{where}: is sampled by {str(name)[:60]}, whose noise levels DDIM cannot follow; "
            "use a plain text-to-image model."
        )
    configs.checked(configs.SchedulerSchema, config, where / "scheduler_config.json")
