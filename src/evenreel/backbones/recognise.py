"""What a file of weights is, told from the names and shapes of its tensors; no numbers are read.

Layouts are facts about what tools write: the original code's (`model.diffusion_model.input_blocks...`), diffusers'
(`down_blocks...`), kohya's (`lora_unet_...`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evenreel.backbones.safetensors_file import Header

UNET, EMA = "model.diffusion_model.", "model_ema."
"""Prefixes of a checkpoint's noise predictor, and of the flattened copy of it that is averaged over the training."""
AUTOENCODER = ("first_stage_model.", "vae.")
CLIP_TEXT, OPEN_CLIP_TEXT = "cond_stage_model.transformer.", "cond_stage_model.model."
"""Prefixes of the text encoders of SD 1.x and of SD 2.x."""
FIRST_XL_TEXT, SECOND_XL_TEXT = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
"""Prefixes of the two of SD-XL."""
REFINER_TEXT = "conditioner.embedders.0.model."
"""Prefix of the only text encoder of its refiner."""

FAMILIES: Mapping[str, str] = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3",
    "flux": "Flux",
    "wan": "Wan",
    "": "a model of unknown family",
}
SUPPORTED = ("sd1", "sd2", "sdxl")
"""Families that can be edited with."""
WIDTHS = {768: "sd1", 1024: "sd2", 1280: "sdxl", 2048: "sdxl", 4096: "sd3"}
"""Families by the features of their prompts."""
USES: Mapping[str, str] = {
    "checkpoint": "model",
    "lora": "lora",
    "embedding": "embedding",
    "control": "control",
    "autoencoder": "vae",
    "adapter": "adapter",
    "motion": "motion",
}
"""With which setting a file of a kind is used."""
UNREAD_LORAS: Mapping[str, str] = {
    "OFT": "rotates weights (OFT)",
    "GLoRA": "changes weights by a product with themselves (GLoRA)",
    "IA3": "scales activations (IA3)",
}
"""Relatives of LoRAs that are named but not read, and what they do."""
PURPOSES: Mapping[int, str] = {
    5: "depth-to-image",
    7: "upscaling",
    8: "instruct-pix2pix (a picture besides the noise)",
    9: "inpainting",
}
"""What UNets are for that take more than four channels, by their number."""
_QUANTISED = re.compile(
    r"\.quant_state\.|\.(absmax|SCB|qweight|quant_map|scale_weight|weight_scale)$|^(model\.diffusion_model\.)?scaled_fp8$"
)
"""What the names of tensors have that say how others are to be unpacked."""
_LORA = re.compile(
    r"\.(lora_(down|up|mid)\.weight|lora_[AB]\.(\w+\.)?weight|lora\.(down|up)\.weight"
    r"|lora_linear_layer\.(down|up)\.weight|hada_w[12]_[ab]|lokr_w[12](_[ab])?|oft_\w+|dora_scale|diff|glora_\w+"
    r"|a[12]\.weight|on_input)$|_lora\.(down|up)\.weight$"
)
"""How the names of a LoRA's tensors end."""
_UNREAD_CONTROLS: tuple[tuple[str, str], ...] = (
    (r"^lora_controlnet$", "a Control-LoRA"),
    (r"^difference$", "a ControlNet saved as a difference to one model"),
    (r"^(task_embedding|control_add_embedding\.)", "a union of several ControlNets in one"),
    (r"^lllite_", "a ControlNet-LLLite"),
)
"""(pattern of a tensor's name, what it is), for relatives of ControlNets that are named but not read."""
_OTHERS: tuple[tuple[str, str, str], ...] = (
    (r"(^|\.)double_blocks\.0\.|(^|\.)single_transformer_blocks\.0\.", "flux", "a Flux model"),
    (r"(^|\.)joint_blocks\.0\.", "sd3", "a Stable Diffusion 3 model"),
    (r"(^|\.)blocks\.0\.(self_attn|attn1)\..*|(^|\.)head\.modulation$", "wan", "a Wan video model"),
    (
        r"^conditioner\.embedders\.",
        "sdxl",
        "a checkpoint of Stable Diffusion XL",
    ),
    (r"^(adapter\.)?body\.0\.", "", "a T2I-Adapter"),
    (r"^(image_proj|ip_adapter)\.", "", "an IP-Adapter"),
    (r"^encoder\.block\.0\.layer\.0\.SelfAttention\.", "", "a T5 text encoder"),
    (r"^decoder\.layers\.\d+\.|^taesd_", "", "a tiny autoencoder (TAESD)"),
    (r"(^|\.)temporal_attentions\.\d", "sdxl", "a motion module of Hotshot-XL"),
    (r"^conv_first\.weight$|^model\.0\.weight$", "", "an upscaler"),
    (r"^visual\.transformer\.|^vision_model\.encoder\.", "", "a CLIP"),
    (r"^(text_model\.)?(encoder|embeddings)\.(layers\.0|token_embedding)", "", "a text encoder"),
)
"""(pattern of a tensor's name, family, what it is), for what is named but not read."""


@dataclass(frozen=True)
class Found:
    """What a file is."""

    kind: str
    """`checkpoint`, `unet`, `autoencoder`, `control`, `lora`, `embedding`, `motion`, `adapter` or `other`."""
    family: str
    """A key of FAMILIES; empty where the shapes do not tell."""
    said: str
    """What it is, in words, with its article."""


def recognise(header: Header) -> Found:
    """Tell what a safetensors file is."""
    tensors = header.tensors
    if "evenreel.adapter" in header.metadata:
        return Found("adapter", "", "an adapter of evenreel")
    if any(_QUANTISED.search(name) for name in tensors):
        return Found("other", "", "a quantised model (int8, nf4, scaled fp8 or the like)")
    if any(_LORA.search(name) for name in tensors):
        return _lora(header)
    if any("motion_modules." in name for name in tensors):
        return _motion(header)
    for pattern, said in _UNREAD_CONTROLS:
        if any(re.search(pattern, name) for name in tensors):
            return Found("other", "", said)
    for prefix in ("control_model.", ""):
        if header.shape(f"{prefix}input_hint_block.0.weight") or (
            not prefix and header.shape("controlnet_cond_embedding.conv_in.weight")
        ):
            return _control(header, prefix)
    if any(name.startswith(UNET + "input_blocks.0.") for name in tensors):
        return _checkpoint(header, UNET)
    if any(name.startswith(EMA + "diffusion_modelinput_blocks") for name in tensors):
        said = f"a checkpoint of {FAMILIES[_unet_family(header, EMA)]} with averaged weights only (model_ema)"
        return Found("other", _unet_family(header, EMA), said)
    for pattern, family, said in _OTHERS:
        if any(re.search(pattern, name) for name in tensors):
            return Found("other", family, said)
    if any(name.startswith("input_blocks.0.") for name in tensors):
        return Found("unet", _unet_family(header, ""), "the noise predictor of a model by itself")
    if header.shape("conv_in.weight") and any(name.startswith("down_blocks.") for name in tensors):
        return Found("unet", _by_names(header), "the UNet of a diffusers folder by itself")
    if autoencoder_prefix(header) is not None:
        return _autoencoder(header)
    if embedding_names(header):
        return _embedding(header)
    first = next(iter(tensors), "nothing")
    return Found("other", "", f"not a kind of file that evenreel knows (its first tensor is {first[:60]})")


def autoencoder_prefix(header: Header) -> str | None:
    """Return what an autoencoder's names begin with; None where there is none. diffusers' own names count too."""
    for prefix in (*AUTOENCODER, ""):
        if header.shape(f"{prefix}decoder.conv_in.weight"):
            return prefix
    return None


def embedding_names(header: Header) -> tuple[str, ...]:
    """Return the tensors of a textual inversion: `emb_params`, those of SD-XL's two encoders, or the only one there
    is."""
    for names in (("emb_params",), ("clip_l", "clip_g")):
        if set(names) <= header.tensors.keys():
            return names
    (*names,) = header.tensors
    one = len(names) == 1 and len(header.tensors[names[0]].shape) in (1, 2)
    return tuple(names) if one else ()


def text_width(header: Header, prefix: str = "") -> int | None:
    """Return how many features the prompts have that cross-attention takes; None where there is no cross-attention."""
    pattern = re.compile(re.escape(prefix) + r".*attn2[._]to_k\.weight$")
    return next(
        (e.shape[1] for n, e in header.tensors.items() if pattern.match(n) and len(e.shape) == 2), None
    )


def _lora(header: Header) -> Found:
    if any("motion_modules." in name for name in header.tensors):
        return Found("other", "", "a LoRA of a motion module")
    family = lora_family(header)
    kind = _algorithm(header.tensors)
    named = f" for {FAMILIES[family]}" if family else ""
    return Found("lora", family, f"{'an' if kind[0] in 'IO' else 'a'} {kind}{named}")


def _algorithm(names: Iterable[str]) -> str:
    ends = {name.rpartition(".")[2] for name in names}
    for algorithm, marks in (
        ("DoRA", {"dora_scale", "lora_magnitude_vector"}),
        ("LoHa", {"hada_w1_a"}),
        ("LoKr", {"lokr_w1", "lokr_w1_a"}),
        ("GLoRA", {"glora_w1", "a1"}),
        ("IA3", {"on_input"}),
    ):
        if ends & marks:
            return algorithm
    return "OFT" if any(end.startswith("oft_") for end in ends) else "LoRA"


def lora_family(header: Header) -> str:
    """Tell of which models a LoRA changes the layers; empty where names and shapes do not tell."""
    names = header.tensors
    marks = {
        "flux": ("double_blocks", "single_blocks", "single_transformer_blocks"),
        "sdxl": ("lora_te2_", "text_encoder_2.", "add_embedding", "label_emb"),
        "sd3": ("joint_blocks", "transformer.transformer_blocks"),
        "wan": ("diffusion_model.blocks.", "lora_unet_blocks_", "cross_attn"),
    }
    for family, parts in marks.items():
        if any(part in name for part in parts for name in names):
            return family
    for name, entry in names.items():
        into_text = re.search(r"attn2[._](processor\.)?to_[kv]", name)
        first = re.search(r"(lora_down|lora_A|lora\.down|to_[kv]_lora\.down|hada_w1_b)", name)
        if into_text and first and len(entry.shape) >= 2:
            return WIDTHS.get(entry.shape[1], "")
    deeper = re.compile(r"transformer_blocks[._][2-9]")
    return "sdxl" if any(deeper.search(name) for name in names) else ""


def _control(header: Header, prefix: str) -> Found:
    family = WIDTHS.get(text_width(header, prefix) or 0, "")
    if header.shape("add_embedding.linear_1.weight") or header.shape(f"{prefix}label_emb.0.0.weight"):
        family = "sdxl"
    return Found("control", family, "a ControlNet" + (f" for {FAMILIES[family]}" if family else ""))


def _motion(header: Header) -> Found:
    names = header.tensors
    if any("controlnet_cond_embedding" in name for name in names):
        return Found("other", "", "a SparseCtrl (a ControlNet with motion modules inside)")
    if any(".resnets." in name or "input_blocks." in name for name in names):
        return Found("other", "", "a whole UNet with motion modules inside")
    if any("motion_modules." not in name for name in names):
        return Found("other", "", "a set of motion modules with other layers beside them, as PIA has them")
    family = "" if any("down_blocks.3." in name for name in names) else "sdxl"
    return Found("motion", family, "a set of motion modules" + (f" for {FAMILIES[family]}" if family else ""))


def _checkpoint(header: Header, prefix: str) -> Found:
    family = _unet_family(header, prefix)
    said = f"a checkpoint of {FAMILIES[family]}"
    if family == "sdxl" and any(name.startswith(REFINER_TEXT) for name in header.tensors):
        return Found("other", family, "a checkpoint of the refiner of Stable Diffusion XL")
    if family == "sdxl" and {"edm_mean", "edm_vpred.sigma_max"} & header.tensors.keys():
        return Found("other", family, f"{said} that was trained with noise levels of EDM")
    shape = header.shape(f"{UNET}input_blocks.0.0.weight") or (0,)
    if family in SUPPORTED and (purpose := PURPOSES.get(dict(enumerate(shape)).get(1, 4))):
        return Found("other", family, f"{said} for {purpose}")
    return Found("checkpoint", family, said)


def _unet_family(header: Header, prefix: str) -> str:
    names = header.tensors
    if any(n.startswith(("conditioner.", f"{prefix}label_emb.0.0.")) for n in names):
        return "sdxl"
    if any(n.startswith(OPEN_CLIP_TEXT) for n in names):
        return "sd2"
    if any(n.startswith(CLIP_TEXT) for n in names):
        return "sd1"
    width = WIDTHS.get(text_width(header, prefix) or 0, "")
    # linear projections into transformers came with SD 2.0; before, they were convolutions of one pixel
    flat = header.shape(f"{prefix}input_blocks.1.1.proj_in.weight") or (0, 0, 0, 0)
    return width or ("sd2" if len(flat) == 2 else "sd1")


def _by_names(header: Header) -> str:
    if header.shape("add_embedding.linear_1.weight"):
        return "sdxl"
    return WIDTHS.get(text_width(header) or 0, "")


def _autoencoder(header: Header) -> Found:
    prefix = autoencoder_prefix(header) or ""
    latents = (header.shape(f"{prefix}decoder.conv_in.weight") or (0, 0))[1]
    if latents == 4:
        return Found("autoencoder", "", "an autoencoder")
    return Found("other", "", f"an autoencoder with {latents} channels of latents (SD 1.x and 2.x have 4)")


def _embedding(header: Header) -> Found:
    names = embedding_names(header)
    family = "sdxl" if len(names) > 1 else WIDTHS.get(header.tensors[names[0]].shape[-1], "")  # pyright: ignore[reportGeneralTypeIssues]
    return Found("embedding", family, "an embedding" + (f" for {FAMILIES[family]}" if family else ""))


def used_as(found: Found) -> str | None:
    """Return the setting that takes a file; None where nothing does."""
    if found.kind == "checkpoint" and found.family not in SUPPORTED:
        return None
    if found.kind == "lora" and found.said.split()[1] in UNREAD_LORAS:
        return None
    return USES.get(found.kind) if found.family in ("", *SUPPORTED) else None
