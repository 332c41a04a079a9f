"""Adapter of a user's own module: it takes pixels in float32 and returns logits in float32."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from blrobust import signals
from blrobust.errors import UserError, describe
from blrobust.models.global_settings import unchanged_settings
from blrobust.models.kept_state import Snapshot, is_restored, kept_state, stop_restoring
from blrobust.models.narrow_logits import narrowed
from blrobust.models.output_logits import NoLogitsError, find_logits
from blrobust.perturbations.base import is_out_of_memory
from blrobust.perturbations.seeding import seeded, states, torch_seeds_kept, unchanged
from blrobust.runs.answers import IDENTIFYING, distance
from blrobust.user_output import prints_counted


class OwnModel(nn.Module):
    """A user's `module` as a model: pixels float32 (m, C, H, W) become logits float32 (m, classes).

    Changes of mode, device or dtype of this wrapper have no effect on the user's module. The user's module
    runs outside inference mode, because it may keep tensors for later passes that need gradients. It gets a
    copy of the pixels, because it may write into its input. If it seeds a global random generator, from which
    attacks draw as well, the former state of the generator is restored. Global settings are restored too
    (`global_settings`). Its calls have `default_dtype` as torch's default dtype. Errors of the module become
    a `UserError` that names the model.
    """

    def __init__(self, module: nn.Module, label: str, classes: int) -> None:
        super().__init__()
        self.module = module
        self.label = label
        self.classes = classes
        self.default_dtype = torch.get_default_dtype()
        self.input_dtype: torch.dtype | None = None  # None: float32
        self.output_dtype = torch.float32  # of the module's own logits, at the last call
        self.needs_grad_mode = False
        self.reseeds = False
        self.most = 0  # images that it has processed at once
        self.training = False

    def train(self, mode: bool = True) -> "OwnModel":
        """Return the model unchanged: it has no training mode."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "OwnModel":
        """Return the model unchanged: the device and the dtypes of the user's module stay as they are."""
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits (m, classes) of pixels (m, C, H, W).

        Raises `UserError` if the module fails or its logits have another shape. If memory is full, the error
        of the module is raised unchanged.
        """
        count = len(pixels)
        try:
            logits = self.logits(pixels)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the user's code raises, SystemExit among it
            if is_out_of_memory(error):
                raise
            images = "1 image" if count == 1 else f"{count} images"
            message = f"model {self.label!r} failed on {images}: {describe(error)}"
            if count > self.most > 0:
                message += f"; a batch size of {self.most} would give it no more than before"
            raise UserError(message) from error
        if logits.shape != (count, self.classes):
            raise UserError(
                f"model {self.label!r} returned logits of shape {tuple(logits.shape)} for {count} images; "
                f"legal: {(count, self.classes)}"
            )
        self.most = max(self.most, count)
        return logits

    def logits(self, pixels: Tensor) -> Tensor:
        """Return the logits of pixels; an error that the module raises is not changed."""
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False), torch.no_grad():
                return self._run(pixels)
        return self._run(pixels)

    def _run(self, pixels: Tensor) -> Tensor:
        inputs = pixels.clone()  # writes into it change no one else's pixels
        if self.input_dtype is not None:
            inputs = inputs.to(self.input_dtype)
        generators = (unchanged if self.reseeds else torch_seeds_kept)(pixels.device)
        needs_grad = self.needs_grad_mode or torch.is_grad_enabled()
        with generators, unchanged_settings(), torch.set_grad_enabled(needs_grad), prints_counted():
            torch.set_default_dtype(self.default_dtype)
            try:
                output = self.module(inputs)
            finally:
                signals.check()
        logits = find_logits(output, len(pixels), self.classes)
        if len(pixels) == 1 and logits.shape == (self.classes,):
            logits = logits[None]  # the module squeezes its output
        if logits.layout != torch.strided:
            logits = logits.to_dense()
        if logits.is_complex():
            raise TypeError("returned complex logits")
        if type(logits) is not Tensor:
            logits = logits.as_subclass(Tensor)
        if logits.is_inference():
            logits = logits.clone()
        if logits.requires_grad and not (pixels.requires_grad and torch.is_grad_enabled()):
            logits = logits.detach()  # it depends on parameters only
        self.output_dtype = logits.dtype
        logits = (narrowed(logits) if logits.ndim == 2 else logits.float()).to(pixels.device).contiguous()
        return logits if logits.requires_grad else logits.clone()  # the module may write into it again

    def fit(self, pixels: Tensor) -> Tensor:
        """Find a way to call the module without an error, and return the logits of pixels (m, C, H, W).

        First, its parameters do not require gradients, and it computes in its own precision. If it fails,
        these changes are tried one after another: weights in float32, inputs in the precision of the weights,
        parameters that require gradients, and a forward pass with gradients enabled. If all fail, the error
        of the module is raised, or `RuntimeError` in place of a `SystemExit`. A module that fails on several
        images is tried with one image at a time.
        """
        try:
            return self._fit(pixels)
        except Exception as error:
            if len(pixels) == 1 or is_out_of_memory(error) or isinstance(error, NoLogitsError):
                raise
            with suppress(Exception):
                logits = torch.cat([self._fit(image) for image in torch.split(pixels, 1)])
                self.most = 1
                return logits
            raise

    def _fit(self, pixels: Tensor) -> Tensor:
        """Return the logits of pixels (m, C, H, W) after the changes described at `fit`.

        Raises the errors of `fit`.
        """
        self.needs_grad_mode = False
        errors: list[BaseException] = []
        odd = odd_dtypes(self.module)
        for prepare in self._preparations():
            try:
                prepare()
                return self._first_call(pixels)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever the user's code raises, SystemExit among it
                errors.append(error)
                if is_out_of_memory(error):
                    break
        cause = errors[1 if odd and len(errors) > 1 else 0]  # of another precision, the error in float32
        if isinstance(cause, Exception):
            raise cause
        raise RuntimeError(describe(cause)) from cause

    @torch.no_grad()
    def _first_call(self, pixels: Tensor) -> Tensor:
        """Return the logits of pixels (m, C, H, W), and restore the state of the module before this call.

        A module that then fails, or returns other logits, gets back the state after the call for good
        (`stop_restoring`): some of the state was out of reach, such as a mark of a library that the module is
        set up. So does a module that builds other parts when its first images are others, or that starts
        threads or processes.
        """
        before = Snapshot(self.module)
        try:
            with unchanged(pixels.device):  # its repetition starts with the same seeds
                logits = self._run(pixels)
            self.reseeds = self._seeds_generators(pixels)
            after = Snapshot(self.module)
        finally:
            before.restore()
        if not is_restored(self.module):
            return logits
        builds = before.can_build_again()
        if builds:
            before.write_back()
        repeats = not after.has_started_workers(before)
        repeats = repeats and self._repeats(logits, pixels, first=pixels / 2 if builds else None)
        if builds or not repeats:
            after.write_back()
        if not repeats:
            stop_restoring(self.module)
        return logits

    def _repeats(self, logits: Tensor, pixels: Tensor, *, first: Tensor | None) -> bool:
        """Return whether another call, after which the state is restored, gives the same logits.

        Before it, `first` is processed, unless it is None.
        """
        try:
            with kept_state(self.module), unchanged(pixels.device):
                if first is not None:
                    self._run(first)
                again = self._run(pixels)
            return distance(*(each.cpu().numpy() for each in (logits, again))) <= IDENTIFYING
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the user's code raises
            if is_out_of_memory(error):
                raise
            return False

    def _seeds_generators(self, pixels: Tensor) -> bool:
        """Return whether the module seeds a global random generator.

        If so, the module leaves the generator in the same state after two passes that start in different
        states.
        """
        left = []
        for key in (0, 1):
            with seeded("own model", key, device=pixels.device):
                self._run(pixels)
                left.append(states(pixels.device))
        return any(first == second for first, second in zip(*left, strict=True))

    def _preparations(self) -> Iterator[Callable[[], Any]]:
        """Yield functions that change the module or the way it is called, to be tried one after another."""
        frozen = [parameter for parameter in self.module.parameters() if parameter.requires_grad]

        def freeze(*, thaw: bool = False) -> None:
            for parameter in frozen:
                parameter.requires_grad_(thaw)

        def cast_input() -> None:
            self.input_dtype = odd[0]

        def enable() -> None:
            self.needs_grad_mode = True

        yield freeze
        odd = odd_dtypes(self.module)
        if odd:
            yield self.module.float
            odd = odd_dtypes(self.module) or odd
            yield cast_input
            self.input_dtype = None
        yield lambda: freeze(thaw=True)
        yield enable


@contextmanager
def own_state_kept(model: nn.Module) -> Iterator[None]:
    """Restore, at the end of the context, the state of the user's modules in `model` (`kept_state`).

    The records of their wrappers (`OwnModel`) are not restored. Networks of ours have no such state.
    """
    with ExitStack() as stack:
        for part in model.modules():
            if isinstance(part, OwnModel):
                stack.enter_context(kept_state(part.module))
        yield


def own_state_is_restored(model: nn.Module) -> bool:
    """Return whether `own_state_kept` restores the state of all of the user's modules in `model`."""
    return all(is_restored(part.module) for part in model.modules() if isinstance(part, OwnModel))


def place(module: nn.Module, device: torch.device) -> None:
    """Put a module into evaluation mode and on `device`; one that uses several devices is not moved.

    Some modules do not support this; for example, those of `torch.export` raise an error for `eval`. They are
    not changed, and fail at their first pass if the change is needed.
    """
    tensors = [*module.parameters(), *module.buffers()]
    if len({tensor.device for tensor in tensors}) <= 1:
        with suppress(Exception):
            module.to(device)
    with suppress(Exception):
        module.eval()


def odd_dtypes(module: nn.Module) -> list[torch.dtype]:
    """Return the floating dtypes other than float32 of a module's tensors, in the order of the tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    found = dict.fromkeys(tensor.dtype for tensor in tensors if tensor.is_floating_point())
    return [dtype for dtype in found if dtype != torch.float32]
