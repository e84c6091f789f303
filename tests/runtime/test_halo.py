"""The measured halo: what tiles overlap by where nobody knows the network."""

import pytest
from torch import Tensor, nn

from imagesmith.nets import RESTORERS, NetSpec, build_net
from imagesmith.runtime.halo import measure_halo


@pytest.mark.parametrize("name", sorted(RESTORERS))
def test_the_declared_halo_is_the_measured_one(name: str) -> None:
    """A halo declared too small leaves seams, one declared too large wastes time on every tile."""
    narrow = {"widths": (12, 20, 24)} if name.endswith("unet") else {}  # sees as far, by the blocks, in less time
    net = build_net(NetSpec(name, narrow))
    assert measure_halo(net, rows=2 * net.multiple_of) == net.halo  # a few rows tell the same in a tenth of the time


def test_a_global_net_has_no_halo() -> None:
    """A net that looks at the whole image can never be tiled exactly; a number here would hide that."""

    class Global(nn.Conv2d):
        scale, channels, planes, multiple_of = 1, 3, 0, 2

        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return x * self.weight.mean() + x.mean(dim=(2, 3), keepdim=True)

    assert measure_halo(Global(3, 3, 3), largest=128) is None
