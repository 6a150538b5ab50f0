"""What a plug-in may import: everything here keeps its name and meaning, or goes through a deprecation.

A package offers hosts, inversions, metrics and backbones under the entry-point groups `evenreel.hosts` and so on;
docs/extending.md has the code of one of each.
"""

from evenreel.backbones import Backbone, layers, load_backbone
from evenreel.backbones.base import Guidance, PromptReader, QuickEdit, Residuals
from evenreel.backbones.control import Control
from evenreel.backbones.devices import choose_device, choose_dtype
from evenreel.backbones.hooks import (
    AttnProcessor,
    forward_hooked,
    inputs_hooked,
    processors_installed,
    timesteps_seen,
)
from evenreel.backbones.text import Embedding, PromptTokens
from evenreel.diffusion import ddim, guidance, sampling
from evenreel.diffusion.inversion import Inverted, invert
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import (
    ClipError,
    DataError,
    EvenreelError,
    OutputError,
    PluginError,
    ResourceError,
    SettingsError,
    WeightsError,
    argument,
)
from evenreel.hosts.attention_stand_in import AttentionStandIn
from evenreel.hosts.base import (
    AttachesInversion,
    Carries,
    EditJob,
    HasSourcelessDefaults,
    Host,
    KeepsSourceRows,
    Occasion,
    Prompts,
    Session,
    TakesMotion,
    TellsIdle,
    TellsRelative,
    create_host,
    sole_session,
    start_of,
)
from evenreel.hosts.injection import (
    Injected,
    InjectionPlan,
    InjectionState,
    features_injected,
    source_attentions,
)
from evenreel.hosts.prediction import branches, predict_guided, prefixed
from evenreel.hosts.source_rows import SourceRows
from evenreel.inversions.base import Inversion, SourceClip, TellsGuided, TellsRandom, create_inversion
from evenreel.metrics.base import Figure, Mean, Metric
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Inputs, Window
from evenreel.random import generator
from evenreel.settings import Before, NotEmpty, Range, read, settle
from evenreel.types import Frames, Latents, Pixels, PromptEmbeds, PromptRows

__all__ = [
    "AttachesInversion",
    "AttentionStandIn",
    "AttnProcessor",
    "Backbone",
    "Before",
    "Carries",
    "ClipError",
    "Control",
    "DataError",
    "EditJob",
    "Embedding",
    "EvenreelError",
    "Figure",
    "Frames",
    "Guidance",
    "HasSourcelessDefaults",
    "Host",
    "Injected",
    "InjectionPlan",
    "InjectionState",
    "Inputs",
    "Inversion",
    "Inverted",
    "KeepsSourceRows",
    "Latents",
    "Mean",
    "Metric",
    "NoiseSchedule",
    "NotEmpty",
    "Occasion",
    "OutputError",
    "Pixels",
    "PluginError",
    "PromptEmbeds",
    "PromptReader",
    "PromptRows",
    "PromptTokens",
    "Prompts",
    "QuickEdit",
    "Range",
    "Residuals",
    "ResourceError",
    "Session",
    "SettingsError",
    "SourceClip",
    "SourceRows",
    "TakesMotion",
    "TellsGuided",
    "TellsIdle",
    "TellsRandom",
    "TellsRelative",
    "Trajectory",
    "UnavailableError",
    "WeightsError",
    "Window",
    "argument",
    "branches",
    "choose_device",
    "choose_dtype",
    "create_host",
    "create_inversion",
    "ddim",
    "features_injected",
    "forward_hooked",
    "generator",
    "guidance",
    "inputs_hooked",
    "invert",
    "layers",
    "load_backbone",
    "predict_guided",
    "prefixed",
    "processors_installed",
    "read",
    "sampling",
    "settle",
    "sole_session",
    "source_attentions",
    "start_of",
    "timesteps_seen",
]
