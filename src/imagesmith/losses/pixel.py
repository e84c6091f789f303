"""Pixel losses: (N, C, H, W) in [0, 1] twice -> scalar mean over everything, so independent of how a batch is split."""

from torch import Tensor


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error."""
    return (prediction - target.detach()).abs().mean()


def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error: what PSNR measures."""
    return (prediction - target.detach()).square().mean()


def charbonnier(prediction: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(error**2 + epsilon**2) - epsilon: L1 with a smooth minimum (Charbonnier et al. 1994)."""
    return ((prediction - target.detach()).square() + epsilon**2).sqrt().mean() - epsilon
