"""A diffusers model folder: where it is, whether it is whole, and which files hold its weights."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from evenreel.backbones import safetensors_file
from evenreel.errors import WeightsError, argument

PARTS = {
    "unet": ("UNet2DConditionModel", "diffusion_pytorch_model"),
    "vae": ("AutoencoderKL", "diffusion_pytorch_model"),
    "text_encoder": ("CLIPTextModel", "model"),
}
"""For each part with weights: the class that it must be, and the stem of its file."""
_CHECKSUMS = "SHA256SUMS"
_TRUSTED = ("diffusers", "transformers", None)
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class ModelFolder:
    """A Stable Diffusion model in diffusers' layout, checked before anything of it is loaded."""

    parts: ClassVar[Mapping[str, tuple[str, str]]] = PARTS
    """What has weights in it."""
    wanted: ClassVar[str] = "an SD 1.x or 2.x model"
    """What to use instead of something else."""
    gigabytes: ClassVar[float] = 4
    """What fetching one takes, about."""

    path: Path
    """Holds unet, vae, text_encoder, tokenizer and scheduler."""

    def check(self) -> None:
        """Raise WeightsError unless every part is there, whole, of a known class, and free of code."""
        if (self.path / "model_index.json").exists():
            self._check_trusted(read_json(self.path / "model_index.json"))
        self._check_weights()
        self.config("scheduler", "scheduler_config.json")
        if not (self.path / "tokenizer").is_dir():
            raise WeightsError(f"{self.path}: the tokenizer folder is missing; fetch the model again.")
        self._check_sums()

    def config(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """A part's configuration. Raises: WeightsError when it is missing or damaged."""
        return read_json(self.path / part / name)

    def variant(self, part: str) -> str | None:
        """`fp16` when a part comes only in half precision, else None."""
        stem = self.parts[part][1]
        whole = any(
            (self.path / part / f"{stem}{end}").exists()
            for end in (".safetensors", ".safetensors.index.json")
        )
        return None if whole else "fp16"

    def weight_files(self, part: str) -> tuple[Path, ...]:
        """The safetensors files of a part. Raises: WeightsError when there are none, or only pickles."""
        folder, stem = self.path / part, self.parts[part][1]
        for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
            if (folder / name).exists():
                return (folder / name,)
        if (folder / f"{stem}.safetensors.index.json").exists():
            return self._shards(folder, f"{stem}.safetensors.index.json")
        if folder.is_dir() and any(file.suffix in _PICKLES for file in folder.iterdir()):
            raise WeightsError(
                f"{folder}: the weights are pickled, and pickles can run code when loaded; "
                "use a copy of the model with safetensors files."
            )
        raise WeightsError(f"{folder / stem}.safetensors is missing; fetch the model again.")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all weights; the names of files count, their dates and places do not."""
        total = hashlib.sha256()
        for part in self.parts:
            for file in self.weight_files(part):
                total.update(f"{part}/{file.name} {safetensors_file.sha256(file)}\n".encode())
        return total.hexdigest()

    def _shards(self, folder: Path, index: str) -> tuple[Path, ...]:
        names = sorted(set(read_json(folder / index).get("weight_map", {}).values()))
        if any(Path(name).name != name for name in names):
            raise WeightsError(
                f"{folder / index}: names files outside its folder; this model is not safe to load."
            )
        return tuple(folder / name for name in names)

    def _check_weights(self) -> None:
        for part, (class_name, _) in self.parts.items():
            self._check_class(part, class_name)
            for file in self.weight_files(part):
                safetensors_file.check(file)

    def _check_class(self, part: str, class_name: str) -> None:
        config = self.config(part)
        found = config.get("_class_name") or next(iter(config.get("architectures") or [class_name]))
        if found != class_name or "auto_map" in config:
            raise WeightsError(
                f"{self.path / part}: must be a plain {class_name}, got {found}; use {self.wanted}."
            )

    def _check_trusted(self, index: Mapping[str, Any]) -> None:
        for part, origin in index.items():
            if part in (*PARTS, "tokenizer", "scheduler") and (
                not isinstance(origin, list) or origin[0] not in _TRUSTED
            ):
                raise WeightsError(
                    f"{self.path}: {part} wants to run code of the model's own, which is refused."
                )

    def _check_sums(self) -> None:
        """Compare files with the SHA256SUMS beside them, if any: safetensors loads flipped bits silently."""
        sums = self.path / _CHECKSUMS
        if not sums.exists():
            return
        for line in sums.read_text(encoding="utf-8").splitlines():
            expected, _, name = line.partition("  ")
            if not (self.path / name).is_file() or safetensors_file.sha256(self.path / name) != expected:
                raise WeightsError(
                    f"{self.path / name}: differs from its checksum in {_CHECKSUMS}; fetch it again."
                )


class ControlFolder(ModelFolder):
    """A ControlNet in diffusers' layout: one part, which is the folder itself."""

    parts = MappingProxyType({"": ("ControlNetModel", "diffusion_pytorch_model")})
    wanted = "a ControlNet for SD 1.x or 2.x"
    gigabytes = 1.4

    def check(self) -> None:
        """Raise WeightsError unless the weights are there, whole, of a known class, and free of code."""
        self._check_weights()
        self._check_sums()


AnyFolder = TypeVar("AnyFolder", bound=ModelFolder)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises: WeightsError when it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing; fetch the model again.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON; fetch the model again.") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: holds no JSON object; fetch the model again.")
    return value


def find(name: str, *, download: bool = False, kind: type[AnyFolder] = ModelFolder) -> AnyFolder:
    """The folder of a model, by path or by name on the Hugging Face hub.

    Nothing is fetched unless `download` is set. Raises: WeightsError when the model is not there.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return kind(path)
    if path.exists():
        raise WeightsError(f"{name}: is a single file; evenreel reads model folders in diffusers' layout.")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise WeightsError(
            f"{name}: no such model folder, and no name on the Hugging Face hub (owner/model) either."
        )
    return kind(_from_hub(name, kind, download=download))


def _from_hub(name: str, kind: type[ModelFolder], *, download: bool) -> Path:
    # Imported late: most runs use a folder, and this import costs a second.
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = bool(constants.HF_HUB_OFFLINE)
    patterns = ["model_index.json", "scheduler/*.json", "tokenizer/*.json", "tokenizer/*.txt"]
    patterns += [f"{part}/config.json".lstrip("/") for part in kind.parts]
    stems = [f"{part}/{stem}".lstrip("/") for part, (_, stem) in kind.parts.items()]
    patterns += [
        f"{stem}{end}"
        for stem in stems
        for end in (".safetensors", "-*.safetensors", ".safetensors.index.json")
    ]
    local = offline or not download
    try:
        found = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=local))
        if lacking := [stem for stem in stems if not any(found.glob(f"{stem}*.safetensors"))]:
            halves = [f"{stem}.fp16.safetensors" for stem in lacking]  # what some models have in their place
            snapshot_download(name, allow_patterns=halves, local_files_only=local)
        return found
    except LocalEntryNotFoundError as error:
        how = "HF_HUB_OFFLINE is set: unset it and " if offline else ""
        includes = " ".join(f"--include '{pattern}'" for pattern in patterns)
        raise WeightsError(
            f"{name}: these weights are not on this machine; {how}add {argument('download')}, or fetch them with "
            f"`hf download {name} {includes}`, about {kind.gigabytes:g} GB for {kind.wanted}, "
            f"kept in {constants.HF_HUB_CACHE}."
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{name}: cannot be fetched from the Hugging Face hub ({reason}).") from error


def forbid_remote_code() -> None:
    """Tell diffusers never to run code that comes with a model; must precede its import."""
    os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
