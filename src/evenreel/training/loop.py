"""The one loop that everything is trained by: measured, averaged, cut at any moment, continued, lengthened.

A step is the mean gradient of `accumulation` micro-batches, whoever computes them. Micro-batches are numbered through
the whole run, and each follows from its number; process r of n takes those with r modulo n. So a run's state is its
weights, their running average, the optimizer's moments and the step, and two processes follow one up to rounding.

The learning rate warms up, stays, and falls to zero in the last part of the run (warmup-stable-decay,
arXiv:2404.06395): as long as it stays, a run knows nothing of its length. One that is made longer goes back to the
state before the fall.
"""

import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evenreel.errors import SettingsError, argument
from evenreel.training import optimizers
from evenreel.training.length import Length
from evenreel.training.log import TrainingLog
from evenreel.training.loop_settings import FREE, LoopSettings
from evenreel.training.processes import Processes
from evenreel.training.states import State, StateFiles, check_same
from evenreel.training.trainee import DTYPES, Choice, Draw, Eager, Graphed, chosen, convert

logger = logging.getLogger(__name__)
Figures = dict[str, float]
"""What a step reports, by name; empty where nothing was read off the device."""


class Training:
    """A module on its way to the end of its settings; a state found in the folder is taken up.

    Started by `accelerate launch` on several processes, everything here happens on all of them, but only the first
    writes.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        settings: LoopSettings,
        folder: Path,
        *,
        processes: Processes | None = None,
        unit: int = 1,
        seed: int = 0,
        log: str | None = None,
    ) -> None:
        """`unit`: steps that belong together, through which the module remembers something; states lie between them.

        `seed` is only compared with that of the state: micro-batches are drawn outside. `log` is the name of the file
        of losses, by default NAME.log.jsonl.
        Raises: SettingsError for a state begun with other settings, OutputError for a damaged one.
        """
        if settings.steps is not None and settings.steps % unit:
            raise SettingsError(f"steps must be a multiple of {unit}, got {settings.steps}.")
        self.name, self.module, self.settings, self.unit, self.seed = name, module, settings, unit, seed
        self.processes = processes or Processes("cpu")
        if settings.accumulation % self.processes.count:
            raise SettingsError(
                f"accumulation must be a multiple of the {self.processes.count} processes, got {settings.accumulation}."
            )
        self.device = self.processes.device
        self.module.to(self.device)
        self.parameters = {key: value for key, value in module.named_parameters() if value.requires_grad}
        self._working = list(self.parameters.values())
        """What the module computes with: the parameters themselves, or their copies in a smaller number type."""
        self.averaged = (
            {key: value.detach().clone() for key, value in self.parameters.items()}
            if settings.average
            else {}
        )
        self.step, self.seconds = 0, 0.0
        self._length = Length(settings, unit)
        self.choice: Choice | None = None
        self.lengthened: list[tuple[int, int]] = []
        """(step gone back to, new number of steps) for each time the run was made longer."""
        folder.mkdir(parents=True, exist_ok=True)
        self.files = StateFiles(folder, name)
        self.log = TrainingLog(folder / (log or f"{name}.log.jsonl"))
        self._optimizers: list[torch.optim.Optimizer] = []
        self._moments: dict[str, Tensor] = {}
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        self._scaler_state: dict[str, Any] | None = None
        state = self.files.newest()
        if state is not None:
            self._take_up(state)

    @property
    def length(self) -> int | None:
        """Steps in all; None as long as minutes have not told."""
        return self._length.steps

    @property
    def done(self) -> bool:
        """Whether all steps are made."""
        return self.length is not None and self.step >= self.length

    def trained(self) -> nn.Module:
        """Return the module with the averaged weights, where an average is kept: what comes out."""
        convert(self.module, torch.float32)
        with torch.no_grad():
            final = self.averaged or self.parameters
            torch._foreach_copy_(self._working, [value.detach() for value in final.values()])
        return self.module.eval()

    def run(self, draw: Draw) -> Iterator[tuple[int, Figures]]:
        """Train to the end; yields (steps done, mean figures since the last ones, or none) after each step.

        On a CPU there are figures at every step; on a GPU now and then, as reading them makes it wait.
        Raises: FloatingPointError when the loss or the gradient is not finite (the last good state is kept),
        OutputError when another training is at work in the folder, SettingsError for minutes in which no step fits.
        """
        if self.done:
            return
        with self.files.locked() if self.processes.is_main else nullcontext():
            yield from self._run(draw)

    def _run(self, draw: Draw) -> Iterator[tuple[int, Figures]]:
        settings, unit = self.settings, self.unit
        if settings.warmup_made != settings.warmup and self.processes.is_main:
            logger.warning(
                "the warm-up of %d steps is longer than the training of %d: it is shortened to %d",
                *(settings.warmup, settings.steps, settings.warmup_made),
            )
        self.module.train()
        self._prepare(draw)
        main, every = self.processes.is_main, 1 if self.device.type == "cpu" else 20
        if main:
            facts = {**self._record(), "choice": self._choice.described()}
            self.log.begin(facts.pop("step"), facts)
        begun, before = time.monotonic(), self.seconds
        saved, sums = begun, dict[str, Tensor]()
        since = 0
        while not self.done:
            if self.length is not None and settings.decay and self.step == settings.falls_from(self.length):
                self._save_stable()
            total = self._gradients(draw)
            self._update(total, settings.rate(self.step, self.length))
            self.step, since = self.step + 1, since + 1
            for name, value in total.items():
                sums[name] = sums[name] + value if name in sums else value.clone()
            self.seconds = before + time.monotonic() - begun
            self._check_time()
            if settings.minutes is not None:
                self._length.follow(self.step, self.processes.agreed(self.seconds))
            figures: Figures = {}
            rate = settings.rate(self.step - 1, self.length)
            if since >= every or self.done:
                figures = self._read({name: value / since for name, value in sums.items()})
                sums, since = {}, 0
                if main:
                    self.log.write(self.step, self.seconds, {**figures, "rate": rate})
            due = self.done or time.monotonic() - saved > settings.checkpoint_seconds
            if self.step % unit == 0 and self.processes.agreed(due):
                self.save()
                saved = time.monotonic()
            yield self.step, figures

    def save(self) -> None:
        """Write the whole state, so that a kill at any moment leaves a good one."""
        if self.processes.is_main:
            self.files.write(self._tensors(), self._record())

    def _save_stable(self) -> None:
        if self.processes.is_main:
            self.files.write_stable(self._tensors(), self._record())

    @property
    def _choice(self) -> Choice:
        assert self.choice is not None, "measured before the first step"
        return self.choice

    def _prepare(self, draw: Draw) -> None:
        """Choose how steps are computed, then make the optimizers, which depend on it."""
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        told = self.settings.dtype
        if self.choice is None or (told != "auto" and told != self.choice.dtype):
            number = self.step * self.settings.accumulation + self.processes.index
            self.choice = self.processes.agreed(chosen(self.module, draw(number), self.device, told))
        if self.choice.attention is not None:
            self.module.use_attention(self.choice.attention)  # pyright: ignore[reportCallIssue]
        fast = DTYPES[self.choice.dtype]
        if self.choice.whole:
            masters = {name: value.detach().clone() for name, value in self.parameters.items()}
            self.parameters = {name: nn.Parameter(value) for name, value in masters.items()}
            convert(self.module, fast)
        self._optimizers = optimizers.build(
            self.parameters,
            self.settings.optimizer,
            weight_decay=self.settings.weight_decay,
            betas=self.settings.betas,
            dtype=torch.bfloat16 if fast is torch.bfloat16 else torch.float32,
        )
        self._load_moments()
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=fast is torch.float16)
        if self._scaler_state:
            self._scaler.load_state_dict(self._scaler_state)
        self._shared = self.processes.share(self.module)
        graphed = (
            self.device.type == "cuda"
            and getattr(self.module, "static", False)
            and self.processes.count == self.settings.accumulation == 1
            and fast is not torch.float16
        )
        cast = "float32" if self.choice.whole else self.choice.dtype
        self._pass = (Graphed if graphed else Eager)(self._shared, self.device, cast)

    def _gradients(self, draw: Draw) -> dict[str, Tensor]:
        """Gradients of a step, in the parameters; mean figures of this process's micro-batches."""
        settings, processes = self.settings, self.processes
        mine = range(processes.index, settings.accumulation, processes.count)
        total: dict[str, Tensor] = {}
        for value in self._working:
            value.grad = None
        for index, micro in enumerate(mine):
            batch = draw(self.step * settings.accumulation + micro)
            with processes.apart(self._shared) if index < len(mine) - 1 else nullcontext():
                loss, figures = self._pass(batch, lambda value: self._scaler.scale(value / len(mine)))
            for name, value in {"loss": loss, **figures}.items():
                share = torch.as_tensor(value, dtype=torch.float32, device=self.device) / len(mine)
                total[name] = total[name] + share if name in total else share
        if self._choice.whole:
            for master, value in zip(self.parameters.values(), self._working, strict=True):
                master.grad = None if value.grad is None else value.grad.float()
        return total

    def _update(self, total: dict[str, Tensor], rate: float) -> None:
        """One optimizer step from the gradients that are there; adds the gradient's norm to the figures."""
        for optimizer in self._optimizers:
            self._scaler.unscale_(optimizer)
            for group in optimizer.param_groups:
                group["lr"] = rate
        total["gradient_norm"] = nn.utils.clip_grad_norm_(
            self.parameters.values(), self.settings.gradient_clip
        )
        if self.device.type == "cpu":
            self._check_finite(self._means(total))
        for optimizer in self._optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()
        if self._choice.whole:
            torch._foreach_copy_(
                [value.detach() for value in self._working],
                [value.detach() for value in self.parameters.values()],
            )
        if self.averaged:
            decay = min(self.settings.average, (2 + self.step) / (11 + self.step))
            torch._foreach_lerp_(
                list(self.averaged.values()),
                [value.detach() for value in self.parameters.values()],
                1 - decay,
            )

    def _means(self, total: Mapping[str, Tensor]) -> Figures:
        """Figures off the device, means over processes."""
        names = sorted(total)
        means = self.processes.mean(torch.stack([total[name].detach().float() for name in names]))
        return dict(zip(names, means.tolist(), strict=True))

    def _read(self, total: Mapping[str, Tensor]) -> Figures:
        figures = self._means(total)
        self._check_finite(figures)
        return figures

    def _check_finite(self, figures: Figures) -> None:
        # With float16 the scaler skips steps whose gradient overflows, which is not a fault; the loss must be finite.
        names = ("loss",) if self._scaler.is_enabled() else ("loss", "gradient_norm")
        if not all(math.isfinite(figures[name]) for name in names):
            raise FloatingPointError(
                f"{self.name}: loss {figures['loss']}, norm of the gradient {figures['gradient_norm']} at step "
                f"{self.step}; the last good state is kept in {self.files.folder}."
            )

    def _check_time(self) -> None:
        """Refuse a limit that the very first step has already passed."""
        limit = self.settings.minutes
        if self.step == 1 and limit is not None and self.processes.agreed(self.seconds > 60 * limit):
            raise SettingsError(
                f"minutes {limit} is less than one step of {self.name} takes here ({self.seconds:.1f} s); give more."
            )

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": value.detach() for name, value in self.parameters.items()}
        tensors |= {f"average.{name}": value for name, value in self.averaged.items()}
        for name, value in self.parameters.items():
            for optimizer in self._optimizers:
                for moment, tensor in optimizer.state.get(value, {}).items():
                    tensors[f"optimizer.{name}/{moment}"] = tensor
        return tensors

    def _record(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "length": self.length,
            "processes": self.processes.count,
            "device": str(self.device),
            "seed": self.seed,
            "settings": asdict(self.settings),
            "choice": None if self.choice is None else asdict(self.choice),
            "lengthened": self.lengthened,
            "scaler": self._scaler.state_dict() if self._scaler.is_enabled() else None,
        }

    def _take_up(self, state: State) -> None:
        """Go on from a state; a run that is made longer, from before its learning rate fell."""
        self._check_same(state)
        record, told = state.record, self.settings.steps
        longer = self._length.take_up(record)
        if longer and record["step"] > self.settings.falls_from(record["length"]):
            stable = self.files.read_stable()
            if stable is not None and stable.record["step"] <= record["step"]:
                state, record = stable, stable.record
            else:
                warnings.warn(
                    f"{self.files.folder}: no state from before the learning rate fell is left; "
                    f"{self.name} is made longer from step {record['step']}.",
                    stacklevel=2,
                )
            self.lengthened = [*map(tuple, record["lengthened"]), (record["step"], told or 0)]
        else:
            self.lengthened = [*map(tuple, record["lengthened"])]
        if told is not None and told < record["step"]:
            raise SettingsError(
                f"{argument('steps')} {told} is less than the {record['step']} that {self.name} in {self.files.folder} "
                "has made; give at least as many, or choose another folder."
            )
        self.step, self.seconds = record["step"], record["seconds"]
        if record["choice"] is not None:
            kept = record["choice"]
            self.choice = Choice(
                kept["dtype"],
                kept["attention"],
                tuple(map(tuple, kept["seconds"])),
                kept["told"],
                kept["whole"],
            )
        self._scaler_state = record["scaler"]
        with torch.no_grad():
            for kind, values in (("model", self.parameters), ("average", self.averaged)):
                for name, value in values.items():
                    value.copy_(state.tensors[f"{kind}.{name}"])
        prefix = "optimizer."
        self._moments = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.tensors.items()
            if name.startswith(prefix)
        }

    def _check_same(self, state: State) -> None:
        where = self.files.folder
        lacking = [name for name in self.parameters if f"model.{name}" not in state.tensors]
        other = [
            name
            for name, value in self.parameters.items()
            if name not in lacking and state.tensors[f"model.{name}"].shape != value.shape
        ]
        if lacking or other:
            reason = f"it lacks {lacking[0]}" if lacking else f"{other[0]} has another size"
            raise SettingsError(
                f"{where} holds the state of another training of {self.name} ({reason}); choose another folder."
            )
        told = {**asdict(self.settings), "seed": self.seed}
        check_same(where, told, {**state.record["settings"], "seed": state.record["seed"]}, FREE)

    def _load_moments(self) -> None:
        owners = {
            id(value): optimizer
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for value in group["params"]
        }
        for name, tensor in self._moments.items():
            key, moment = name.rsplit("/", 1)
            value = self.parameters[key]
            owners[id(value)].state[value][moment] = tensor.to(self.device)
        self._moments = {}
