"""DeconvolvedUNet: a U-Net that mends what deconvolution with the kernel of a blur leaves.

Source: deconvolution by Wiener's filter first, and a network after it, as in Schuler et al. 2013 (A machine learning
approach for non-blind image deconvolution); `nets/unet.py` for the network. Licence: Apache-2.0.
"""

from collections.abc import Sequence

from torch import Tensor

from imagesmith.nets.unet import UNet


class DeconvolvedUNet(UNet):
    """(N, 3 + 6, H, W) -> (N, 3, H, W): the blurred picture, and `tensors.deconvolution_planes` of it.

    The result departs from the first three planes, the picture deconvolved.
    """

    def __init__(self, widths: Sequence[int] = (48, 80, 96), blocks: Sequence[int] = (2, 2, 4)) -> None:
        super().__init__(widths, blocks, channels=3, planes=6)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 3:6] + self.residual(x)
