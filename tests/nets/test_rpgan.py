"""The modern pair: what is computed by hand in it is what its layers say."""

import torch

from imagesmith.nets.rpgan import RpganDiscriminator


def test_pooling_by_hand_is_the_convolution_whose_weights_it_takes() -> None:
    """The accident: weights of the layer are read in another order, and a discriminator that was saved judges anew."""
    torch.manual_seed(0)
    net = RpganDiscriminator((16, 32), widths=(8, 4)).double()
    image = torch.randn(3, 3, 16, 32, dtype=torch.float64)
    found = net.features(image)
    last = list[torch.Tensor]()
    net.stages[-1].register_forward_hook(lambda module, inputs, output: last.append(output))
    net.features(image)
    assert last[0].shape[-2:] == (4, 8)
    assert torch.allclose(found, net.pool(last[0]).flatten(1), rtol=1e-12)
