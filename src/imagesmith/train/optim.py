"""Optimisers, and the learning rate as a function of progress."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from imagesmith.configs import OptimConfig


def rate_at(progress: float, config: OptimConfig) -> float:
    """Learning rate at `progress` in [0, 1]: a linear rise, a plateau, a half cosine down to the final share."""
    if progress < config.warm_up:
        return config.learning_rate * progress / config.warm_up
    if progress <= config.plateau:
        return config.learning_rate
    fall = (1 + math.cos(math.pi * min(1.0, (progress - config.plateau) / max(1e-9, 1 - config.plateau)))) / 2
    return config.learning_rate * (config.final + (1 - config.final) * fall)


def build_optimizers(net: nn.Module, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """The configured optimisers, which together cover all parameters of `net`.

    Muon takes the kernels between feature maps (16 channels and more on both sides); first and last layers, biases and
    slopes are Adam's.
    """
    kernels, others = [], []
    for parameter in net.parameters():
        between_features = parameter.ndim == 4 and min(parameter.shape[:2]) >= 16
        (kernels if config.name == "muon" and between_features else others).append(parameter)
    if all(parameter.is_cuda for parameter in others):
        # one kernel for all parameters, and a rate that lies where a recorded step finds it
        on_gpu = {"fused": True, "capturable": True}
        muons_rate, adams_rate = (torch.tensor(config.learning_rate, device=others[0].device) for _ in range(2))
    else:
        on_gpu, muons_rate, adams_rate = {}, config.learning_rate, config.learning_rate
    adam = torch.optim.Adam(others, lr=adams_rate, betas=config.betas, **on_gpu)
    return [Muon(kernels, muons_rate), adam] if kernels else [adam]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the coming step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def move(optimizers: Iterable[torch.optim.Optimizer], refused: Tensor) -> None:
    """Take a step unless it was `refused`, a tensor of one truth. One on a GPU is not waited for: its optimisers look.

    What says so is called as gradient scalers call it, which both Adam and Muon here follow.
    """
    if refused.is_cpu and refused:
        return
    for optimizer in optimizers:
        if not refused.is_cpu:
            optimizer.found_inf = refused.float()  # type: ignore[attr-defined]
        optimizer.step()


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each convolution kernel is made orthogonal (Jordan et al. 2024).

    A kernel's Nesterov momentum, flattened to (out, in * k * k), is replaced by its nearest semi-orthogonal matrix and
    scaled to the root mean square of an Adam step (Liu et al. 2025, 'Muon is scalable', sec. 2.2), so one learning rate
    serves both. torch.optim.Muon takes matrices only, one at a time; here kernels of one shape share a batched product.
    Where `found_inf` is 1 nothing moves, as in torch's fused optimisers.
    """

    found_inf: Tensor | None = None

    def __init__(self, kernels: Iterable[Tensor], lr: float | Tensor, momentum: float = 0.95) -> None:
        super().__init__(kernels, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients at hand."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for kernel in group["params"]:
                if kernel.grad is not None:
                    by_shape.setdefault(tuple(kernel.shape), []).append(kernel)
            for kernels in by_shape.values():
                self._update(kernels, group["lr"], group["momentum"])

    def _update(self, kernels: list[Tensor], rate: float | Tensor, keep: float) -> None:
        updates, learn = [], 1 - keep
        if (refused := self.found_inf) is not None:
            rate, learn = rate * (1 - refused), (1 - keep) * (1 - refused)
        for kernel in kernels:
            gradient = kernel.grad
            assert gradient is not None, "kernels without a gradient were left out"
            if refused is not None:
                gradient = torch.where(refused.bool(), 0, gradient)  # what is no number stays none when multiplied by 0
            state = self.state[kernel]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(kernel)
            momentum = state["momentum"].lerp_(gradient, learn)
            updates.append(gradient.lerp(momentum, keep).reshape(kernel.shape[0], -1))
        orthogonal = orthogonalise(torch.stack(updates))
        scale = 0.2 * max(orthogonal.shape[1:]) ** 0.5
        for kernel, update in zip(kernels, orthogonal * (rate * scale), strict=True):
            kernel.sub_(update.view(kernel.shape))


def orthogonalise(matrices: Tensor) -> Tensor:
    """The semi-orthogonal matrices nearest to a batch (B, m, n), by Muon's quintic Newton-Schulz iteration."""
    x = matrices / (matrices.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x
