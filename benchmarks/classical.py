"""What scikit-image's classical methods reach on the networks' pictures, told the true kernel or the true mask."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from protocols import Protocol, test_set
from skimage.restoration import inpaint_biharmonic, richardson_lucy, wiener
from torch import Tensor

from imagesmith.configs import recipe
from imagesmith.data.pairs import images_by_name
from imagesmith.degrade import Chain, build_degradation
from imagesmith.degrade.blur import MotionBlur
from imagesmith.evaluate.cases import Case, Made, made_cases
from imagesmith.metrics import METRICS
from imagesmith.tensors import generator_for

WIENER_BALANCE = 0.01
"""Best of 0.001, 0.003, 0.01, 0.03 and 0.1 on five photographs of BSDS500 under camera shake."""
RICHARDSON_LUCY_ITERATIONS = 20
"""Best of 2, 5, 10, 20 and 30 on the same: 27.2 dB, from 23.4; later ones raise the noise. 10 is scikit-image's own."""


def rivals(protocol: Protocol, data: Path) -> dict[str, float]:
    """The mean of the protocol's first metric for every classical method that fits its damage."""
    parts = recipe(protocol.degrade) if isinstance(protocol.degrade, str) else protocol.degrade
    chain = Chain(tuple(build_degradation(part.name, part.options) for part in parts))
    targets = list(images_by_name(test_set(data, protocol.test_set)).values())
    holes = parts[-1].name == "holes"

    def mean(mend: Callable[[Case, int], Tensor]) -> float:
        cases = made_cases(targets, chain, gray=protocol.gray, holes=holes)
        return float(np.mean(list(_scores(protocol.metrics[0], cases, mend))))

    if holes:
        return {"biharmonic": mean(lambda case, _: _biharmonic(case))}
    if isinstance(blur := chain.parts[0], MotionBlur):
        return {
            "Wiener with the true kernel": mean(lambda case, index: _deconvolved(case, blur, index, _wiener)),
            "Richardson-Lucy with it": mean(lambda case, index: _deconvolved(case, blur, index, _richardson_lucy)),
        }
    return {}


def _scores(metric: str, cases: Iterator[Case], mend: Callable[[Case, int], Tensor]) -> Iterator[float]:
    card = METRICS[metric]
    for index, case in enumerate(cases):
        extra = [case.hole] if card.needs == "hole" else []
        yield float(card.function(mend(case, index).to(case.target.dtype), case.target, 0, *extra))


def _biharmonic(case: Case) -> Tensor:
    assert isinstance(case.given, Made)
    assert case.hole is not None
    filled = inpaint_biharmonic(
        case.given.picture[0].permute(1, 2, 0).numpy(),
        case.hole[0, 0].numpy(),
        split_into_regions=True,
        channel_axis=-1,
    )
    return torch.from_numpy(filled).permute(2, 0, 1)[None]


def _deconvolved(
    case: Case, blur: MotionBlur, index: int, method: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Tensor:
    """Channel by channel, mirrored beyond the edges so that these do not ring; the recipe's kernel, drawn again."""
    assert isinstance(case.given, Made)
    kernel = blur.kernel(generator_for(index)).double().numpy()
    border = 2 * len(kernel)
    channels = [
        method(np.pad(channel, border, mode="symmetric"), kernel)[border:-border, border:-border]
        for channel in case.given.picture[0].double().numpy()
    ]
    return torch.from_numpy(np.stack(channels))[None]


def _wiener(channel: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.asarray(wiener(channel, kernel, WIENER_BALANCE))


def _richardson_lucy(channel: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return richardson_lucy(channel, kernel, num_iter=RICHARDSON_LUCY_ITERATIONS)
