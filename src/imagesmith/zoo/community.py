"""Weights of other projects (PyTorch files and .safetensors) as restorers; nothing in such a file is ever executed.

DnCNNs are built here, all other families are recognised and built by spandrel (the extra `community`). How far a
network sees is measured, since no file tells: where that is near enough, tiles are exact, else they overlap by
`FARTHEST_PX`.
"""

import contextlib
import importlib.metadata
import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.errors import ModelError
from imagesmith.nets import NetSpec
from imagesmith.runtime.halo import measure_halo
from imagesmith.runtime.tiling import tile_px
from imagesmith.tensors import is_out_of_memory
from imagesmith.zoo.pytorch_files import read_state_dict, unwrapped
from imagesmith.zoo.weights import Model, describe

FARTHEST_PX = 64
"""A network that sees farther is tiled with so much overlap, which is not exact: what lies beyond matters little."""
_TASKS = {"FBCNN": "jpeg", "SCUNet": "denoise", "DnCNN": "denoise", "FFTformer": "deblur"}
_WANTED = "expected a weight file written by imagesmith, or a restoring network of a known family"
_AGAIN = "save the network again as it was trained, or fetch another file"
_LARGEST_STEP = 64


class PlainStack(nn.Module):
    """A DnCNN with its normalisation merged: convolutions and ReLUs, whose sum of all is the noise, taken from `x`.

    Source: Zhang et al. 2017; the names of the tensors are those of KAIR.
    """

    scale, planes, multiple_of = 1, 0, 1

    def __init__(self, channels: int, width: int, depth: int, kernel: int = 3) -> None:
        super().__init__()
        self.channels, self.halo = channels, depth * (kernel // 2)
        sizes = [channels, *[width] * (depth - 1), channels]
        layers = [nn.Conv2d(a, b, kernel, padding=kernel // 2) for a, b in itertools.pairwise(sizes)]
        self.model = nn.Sequential(*itertools.chain(*zip(layers, [nn.ReLU(inplace=True)] * depth, strict=True)))[:-1]

    def forward(self, x: Tensor) -> Tensor:
        return x - self.model(x.to(next(self.parameters()).dtype)).to(x.dtype)

    def subpixels(self, x: Tensor) -> Tensor:
        """The result itself: the size stays."""
        return self(x)

    def fused(self) -> Self:
        """Itself: there is no branch to merge."""
        return self


class Community(nn.Module):
    """A network that spandrel built, called as `call(model, image)`; sizes below `least` pixels are padded."""

    planes = 0
    features_per_px: int
    """Only of networks whose widest layers compute at lower resolutions, see `tile_px`."""

    def __init__(
        self,
        model: nn.Module,
        call: Callable[..., Tensor],
        *,
        scale: int,
        channels: int,
        multiple_of: int,
        least: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.call, self.least = model, call, least
        self.scale, self.channels, self.multiple_of = scale, channels, multiple_of
        self.halo, self.halo_is_exact = FARTHEST_PX, False

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        right, bottom = max(0, self.least - width), max(0, self.least - height)
        padded = F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x
        own = padded.to(next(self.model.parameters()).dtype, copy=True)  # some networks write into what they are given
        y = self._called(own).to(x.dtype)
        return y[..., : height * self.scale, : width * self.scale]

    def _called(self, x: Tensor) -> Tensor:
        """What the network makes of `x`; ModelError where it has operations that the precision of `x` lacks."""
        try:
            return self.call(self.model, x)
        except RuntimeError as error:
            if x.dtype == torch.float32 or is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            name = str(x.dtype).removeprefix("torch.")
            raise ModelError(f"this network cannot be computed in {name} ({reason})\nuse --dtype fp32") from None

    def subpixels(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(self(x), self.scale)

    def fused(self) -> Self:
        """Itself: what could be merged is not known."""
        return self


def load_community(path: str | Path) -> Model:
    """The restorer in a file of tensors alone, or of a checkpoint that holds them under one of the usual names.

    ModelError for files with code in them, for unknown families, for networks that need to be told a noise level or
    where holes are, and where spandrel is needed and missing.
    """
    path = Path(path)
    tensors = _read(path)
    _refuse_not_finite(tensors, path)
    family, net = ("DnCNN", stack) if (stack := _plain_stack(tensors, path)) else _through_spandrel(path, tensors)
    net.eval()  # before it is measured: in training, layers leave out paths by chance
    about = "read from another project's weights; "
    if isinstance(net, Community):
        _measure(net)
        exact, rough = (
            "sees {0} px far: tiles are exact",
            "sees farther than {0} px: tiles overlap so far and are not exact",
        )
        about += exact if net.halo_is_exact else rough
    task = "sr" if net.scale > 1 else _TASKS.get(family, "restore")
    spec = NetSpec(f"community:{family}", {})
    about = about.format(net.halo).removesuffix("; ")
    return Model(net, describe(net, spec, path.stem, task=task, description=about, licence="unknown"))


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors by name, without the prefixes of wrappers."""
    if path.suffix.lower() != ".safetensors":
        return read_state_dict(path, nested=True)
    try:
        return unwrapped(safetensors.torch.load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the weights '{path}': {error}\nfetch or copy the file again") from None


def _refuse_not_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """ModelError naming the first tensor with NaN or infinity in it: such a network restores nothing."""
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.float().isfinite().all()):
            raise ModelError(
                f"expected weights that are finite, got NaN or infinity in '{name}' of '{path}'\n"
                "fetch or copy the file again, or take an earlier one of that training"
            )


def _plain_stack(tensors: dict[str, Tensor], path: Path) -> PlainStack | None:
    """The DnCNN whose layers these are, weights loaded; None for other tensors.

    ModelError for a DnCNN that cannot work: without filters, or of whole numbers, whose scale nothing tells.
    """
    places = [int(found[1]) for name in tensors if (found := re.fullmatch(r"model\.(\d+)\.weight", name))]
    names = {f"model.{2 * i}.{kind}" for i in range(len(places)) for kind in ("weight", "bias")}
    if len(places) < 3 or names != tensors.keys():
        return None
    width, channels, *kernel = tensors["model.0.weight"].shape
    if channels not in (1, 3) or len(kernel) != 2 or kernel[0] != kernel[1] or not kernel[0] % 2:
        return None
    if width == 0:
        raise ModelError(f"expected a DnCNN of one filter a layer and more, got none in '{path}'\n{_AGAIN}")
    if whole := [name for name, value in tensors.items() if not value.is_floating_point()]:
        raise ModelError(
            f"expected a DnCNN of floating-point numbers, got {str(tensors[whole[0]].dtype).removeprefix('torch.')} in "
            f"'{whole[0]}' of '{path}', whose scale nothing tells\n{_AGAIN}"
        )
    net = PlainStack(channels, width, len(places), kernel[0])
    if any(tensors[name].shape != value.shape for name, value in net.state_dict().items()):
        return None
    net.load_state_dict(tensors)
    return net


def _through_spandrel(path: Path, tensors: dict[str, Tensor]) -> tuple[str, Community]:
    """The name of the family and the network, as spandrel recognises them."""
    spandrel = _spandrel(path)
    known = ", ".join(sorted({"DnCNN", *(entry.architecture.name for entry in spandrel.MAIN_REGISTRY.architectures())}))
    try:
        found = spandrel.ModelLoader(device="cpu").load_from_state_dict(tensors)
    except spandrel.UnsupportedModelError:
        raise ModelError(
            f"{_WANTED}, got other tensors, without imagesmith's metadata, in '{path}'\nknown are {known}"
        ) from None
    except Exception as error:  # detection by names alone: a builder fails in any way on shapes it does not expect
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{_WANTED}, got tensors in '{path}' that only look like one: {reason}") from None
    family = found.architecture.name
    if not isinstance(found, spandrel.ImageModelDescriptor):
        raise ModelError(f"{_WANTED}, got '{path}' ({family}), which fills holes\nuse the shipped model 'inpaint'")
    if family == "DRUNet" or "FDnCNN" in found.tags:
        raise ModelError(
            f"{_WANTED}, got '{path}' ({family}), which must be told the noise level of each picture\n"
            "use the shipped model 'denoise', which finds it by itself"
        )
    sizes = found.size_requirements
    if sizes.square or found.input_channels != found.output_channels or found.input_channels not in (1, 3):
        raise ModelError(
            f"{_WANTED} for gray or colour pictures of any size, got '{path}' ({family}): "
            f"{found.input_channels} channels to {found.output_channels}{', squares only' if sizes.square else ''}"
        )
    net = Community(
        found.model,
        found._call_fn,  # without the clamping of `found(image)`, which would hide an overflow
        scale=found.scale,
        channels=found.input_channels,
        multiple_of=sizes.multiple_of,
        least=sizes.minimum,
    )
    return family, net


def _spandrel(path: Path) -> Any:
    """The package spandrel; ModelError that tells what is in its way."""
    unknown = (
        f"expected a weight file written by imagesmith, got '{path}' without imagesmith's metadata\n"
        "it is no DnCNN, and other families need"
    )
    try:
        import spandrel  # type: ignore[import-not-found]
    except ImportError as error:
        raise ModelError(
            f"{unknown} the package spandrel, which cannot be imported ({error}): pip install 'imagesmith[community]'"
        ) from None
    except (RuntimeError, OSError) as error:  # compiled parts of torchvision, which spandrel imports, do not fit torch
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchvision"))
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{unknown} spandrel, whose torchvision does not fit torch ({versions}): {reason}\n"
            "install torchvision from the same index as torch"
        ) from None
    return spandrel


def _measure(net: Community) -> None:
    """Find out how far `net` sees, to which grid its tiles must keep, and how large they may be."""
    try:
        _count_features(net)
        step, is_exact = _grid(net)
        net.multiple_of = step
        if not is_exact:
            return
        halo = measure_halo(net, largest=2 * (FARTHEST_PX + 2 * step), rows=_rows(net, step))
    except Exception:  # it takes no strips, or computes in float32 only: whatever networks of others may refuse
        return
    if halo is not None and halo <= FARTHEST_PX:
        net.halo, net.halo_is_exact = halo, True


@torch.inference_mode()
def _count_features(net: Community) -> None:
    """Let `net` tell its `features_per_px`, where its widest layers compute at lower resolutions."""
    usual, sizes = tile_px(net), []
    rows = _rows(net, net.multiple_of)
    x = torch.zeros(1, net.channels, rows, max(rows, _LARGEST_STEP // net.multiple_of * net.multiple_of))

    def count(module: nn.Module, given: Any, result: Any) -> None:
        if isinstance(result, Tensor):
            sizes.append(result.numel())

    with contextlib.ExitStack() as hooks:
        for module in net.modules():
            hooks.enter_context(module.register_forward_hook(count))
        net(x)
    net.features_per_px = max(net.channels, math.ceil(max(sizes) / x[0, 0].numel()))
    if tile_px(net) < usual:  # the largest tensor is enlarged: halos would take more than is saved by smaller tiles
        del net.features_per_px


def _grid(net: Community) -> tuple[int, bool]:
    """The pixels in a cell of the grid on which the windows of attention of `net` lie, and whether no other fits.

    Of a network that sees farther than `FARTHEST_PX` no grid fits: the finest of those that fit about as well as any.
    """
    misfits = {}
    for step in (net.multiple_of << power for power in range(7) if net.multiple_of << power <= _LARGEST_STEP):
        misfits[step] = _misfit(net, step)
        if misfits[step] <= 1e-4:
            return step, True
    return next(step for step, misfit in misfits.items() if misfit <= 2 * min(misfits.values())), False


@torch.inference_mode()
def _misfit(net: Community, step: int) -> float:
    """How much another result, for its largest value, `net` gives for a picture cut off at an odd multiple of `step`.

    Only away from the cut; what is cut off is bright and about as wide for all steps, for it to be missed in a mean.
    """
    random = torch.Generator().manual_seed(0)
    first = step * (_LARGEST_STEP // step - 1 | 1)
    width = first - (-(2 * FARTHEST_PX + step) // step) * step
    x = torch.rand(1, net.channels, _rows(net, step), width, generator=random)
    x[..., :first] = 0.9 + 0.1 * x[..., :first]
    x[..., first:] *= 0.3
    whole, cut = net(x)[..., first * net.scale :], net(x[..., first:])
    difference = (whole - cut)[..., FARTHEST_PX * net.scale :].abs().max()
    return float(difference / whole.abs().max())


def _rows(net: Community, step: int) -> int:
    """The height of a strip to try `net` on: as low as it takes."""
    return -(-max(2 * step, net.least, 16) // step) * step
