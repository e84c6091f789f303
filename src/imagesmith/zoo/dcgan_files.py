"""Checkpoints of PyTorch's DCGAN example, `netG_epoch_*.pth` and `netD_epoch_*.pth`, and of its descendants.

They hold tensors and nothing else; what the networks look like is told by the shapes of the kernels. The way back
needs no function: `torch.save(net.state_dict(), path)` writes what the example loads.
"""

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagesmith.errors import ConfigError, ModelError
from imagesmith.nets import NetSpec, build_net
from imagesmith.zoo.pytorch_files import read_state_dict
from imagesmith.zoo.weights import Model, describe


def load_dcgan(path: str | Path) -> Model:
    """The unconditional generator or discriminator in a state dict of the example, of any size and width.

    Known variants: the last kernel of the generator is 1x1, that of the discriminator as large as its last feature map
    (2x2 for 32 pixels), names begin with `module.` or `_orig_mod.`, batch norms do not count their batches, the state
    dict lies under one of the names `NESTED` in a checkpoint, of which the generator goes first. ModelError for others.
    """
    path = Path(path)
    tensors = read_state_dict(path, nested=True)
    try:
        spec = _spec(tensors)
        with torch.device("meta"):  # shapes only: the file is not yet known to be what it seems
            net = build_net(spec)
    except (ConfigError, ValueError) as error:
        raise ModelError(f"{_EXPECTED}, got other tensors in '{path}': {str(error).splitlines()[0]}") from None
    _check(path, net, tensors)
    values = {
        name: tensors.get(name, torch.zeros(blank.shape)).to(blank.dtype).contiguous()  # only counters can be missing
        for name, blank in net.state_dict().items()
    }
    net.load_state_dict(values, assign=True)
    card = describe(
        net,
        spec,
        path.stem,
        path=str(path),
        task="generate" if spec.name == "dcgan-generator" else "discriminate",
        description="read from a checkpoint of PyTorch's DCGAN example",
        licence="unknown",
    )
    return Model(net.eval(), card)


_EXPECTED = "expected a generator or discriminator of PyTorch's DCGAN example (netG_epoch_*.pth, netD_epoch_*.pth)"
_COUNTER = ".num_batches_tracked"


def _spec(tensors: dict[str, Tensor]) -> NetSpec:
    """The network whose convolutions have these kernels; ValueError where no chain of kernels is recognised."""
    places = {int(found[1]): name for name in tensors if (found := re.fullmatch(r"main\.(\d+)\.weight", name))}
    kernels = [tensors[places[place]].shape for place in sorted(places) if tensors[places[place]].ndim == 4]
    if len(kernels) < 2 or not all(map(math.prod, kernels)):
        raise ValueError(f"there are {len(kernels)} kernels named main.N.weight")
    first, last = kernels[0], kernels[-1]
    options: dict[str, Any]
    if "main.1.weight" in tensors:  # only the generator normalises after its first layer
        base, last_kernel = tuple(first[2:]), last[2]
        doublings = len(kernels) - (2 if last_kernel == 1 else 1)
        options = {"channels": last[1], "latent_size": first[0], "width": last[0], "last_kernel": last_kernel}
    else:
        base, doublings = tuple(last[2:]), len(kernels) - 1
        options = {"channels": first[1], "width": first[0]}
    if options["channels"] > 4:
        raise ValueError(f"they make images of {options['channels']} channels, not of 1 to 4")
    size = tuple(side << doublings for side in base)
    name = "dcgan-generator" if "main.1.weight" in tensors else "dcgan-discriminator"
    return NetSpec(name, {"size": size, "base": base} | options)


def _check(path: Path, net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """ModelError where `tensors` are not those of `net`; counters of batch norms do not matter."""
    expected = {name: tuple(value.shape) for name, value in net.state_dict().items() if not name.endswith(_COUNTER)}
    found = {name: tuple(value.shape) for name, value in tensors.items() if not name.endswith(_COUNTER)}
    odd = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if odd:
        name = odd[0]
        raise ModelError(
            f"{_EXPECTED}, got other tensors in '{path}':\n"
            f"'{name}' is {found.get(name, 'missing')}, expected {expected.get(name, 'no such tensor')}"
        )
