"""Validation of a restorer while it trains: score, best model, sample sheet and curve."""

import datetime
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.atomic import write_whole
from imagesmith.configs import AdversarialConfig, RestorerConfig
from imagesmith.data.datasets import Given, Pair, PhotoFolder, degrade_whole, middle, middle_pair, whole_pair
from imagesmith.data.files import Frame, write_image
from imagesmith.data.pairs import PairFolder
from imagesmith.degrade import Chain
from imagesmith.errors import ModelError
from imagesmith.metrics import METRICS
from imagesmith.nets import NetSpec
from imagesmith.runtime.log import RunLog, read_history
from imagesmith.tensors import from_float
from imagesmith.train.machine import Arithmetic
from imagesmith.train.state import TrainState
from imagesmith.zoo import CARDS, ModelCard, describe, save_model
from imagesmith.zoo.cards import read_header
from imagesmith.zoo.weights import find_weights

MOST_PX = 1024
"""Of larger photographs only the middle is scored, so that validating never costs more than training."""
SHEET_ROWS = 4
SHEET_PX = 192
CURVE_PX = (640, 320)


class Validation:
    """Called with the state: scores the averaged restorer on the photographs kept apart, and keeps the best one."""

    def __init__(
        self,
        config: RestorerConfig,
        photos: PhotoFolder | PairFolder,
        chain: Chain | Given,
        arithmetic: Arithmetic,
        log: RunLog | None,
        *,
        multiple: int = 1,
    ) -> None:
        self.config, self.photos, self.arithmetic, self.log = config, photos, arithmetic, log
        self.pairs = whole_pairs(photos, chain, multiple) if log else []
        self.folder = Path(config.run.out)
        self.commit = commit()  # now: the source tree may change under a running process
        self.start = whole_start(config)
        self.crop = chain.scale if chain.scale > 1 else 0
        self.metrics = ("psnr_y", "spectrum") if config.adversarial else ("psnr_y",)

    def before_the_first_step(self, state: TrainState) -> dict[str, float]:
        """The scores of what the run starts from, which has to be beaten unless it is to become a sharp network."""
        scores, _ = self.scores(state.averages["restorer"], self.pairs)
        if not self.config.adversarial:
            self._keep(scores, state)
        return scores

    def __call__(self, state: TrainState) -> dict[str, float]:
        assert self.log is not None, "only the leader validates"
        scores, sheet = self.scores(state.averages["restorer"], self.pairs)
        patience, waited = self.config.patience, state.progress - state.extras.get("best_progress", 0.0)
        if is_better(scores, state, self.config.adversarial):
            self._keep(scores, state)
        elif patience is not None and waited >= patience and state.progress < 1:
            state.extras["ended"] = True
            self.log.say(f"ended early: nothing better in {waited:.0%} of the run")
        self._draw(sheet, scores["psnr_y"], state.images_seen)
        told = ", ".join(
            f"{name} {value:.3f}{' dB' if name == 'psnr_y' else ''} (best {state.best[name]:.3f})"
            for name, value in scores.items()
        )
        self.log.say(f"validation {told} over {len(self.pairs)} photographs")
        return {f"validation/{name}": value for name, value in scores.items()}

    def rehearse(self, state: TrainState) -> float:
        """Seconds that a call will take, by its first photograph."""
        net, pixels = state.averages["restorer"], [target.numel() for _, target in self.pairs]
        return second_time(lambda: self.scores(net, self.pairs[:1])) * sum(pixels) / pixels[0]

    @torch.inference_mode()
    def scores(self, net: nn.Module, pairs: list[Pair]) -> tuple[dict[str, float], Tensor]:
        """The means of the metrics over pairs of `whole_pairs`, and a sheet of the first of them."""
        found: dict[str, list[float]] = {name: [] for name in self.metrics}
        rows: list[Tensor] = []
        for degraded, target in pairs:
            with self.arithmetic.autocast():
                restored = net(self.arithmetic.place(degraded)).float().cpu()
            for name, values in found.items():
                values.append(float(METRICS[name].function(restored, target, self.crop)))
            if len(rows) < SHEET_ROWS:
                rows.append(sheet_row(degraded, restored, target))
        return {name: sum(values) / len(values) for name, values in found.items()}, stacked(rows)

    def _keep(self, scores: dict[str, float], state: TrainState) -> None:
        """Take the averaged network, with these scores, for the best."""
        state.best = scores | {"images_seen": state.images_seen}
        state.extras["best_progress"] = state.progress
        save_model(self.folder / "model.safetensors", state.averages["restorer"], self._card(state))

    def _card(self, state: TrainState) -> ModelCard:
        config = self.config
        told = config.model_dump(mode="json", exclude={"run": {"out"}, "data": {"folder", "degraded"}})
        if config.start_from:  # a card travels: it tells no folder of the machine that trained
            told["start_from"] = Path(config.start_from).name
        if config.adversarial:
            told["adversarial"]["features"] = Path(config.adversarial.features).name
        return describe(
            state.averages["restorer"],
            NetSpec(config.net.name, config.net.options),
            config.preset,
            task=config.task,
            faithful=self._faithful,
            train_data=f"{len(self.photos.training)} {self.photos.unit} of '{Path(config.data.folder).name}'",
            commit=self.commit,
            training={
                "images_seen": state.images_seen,
                "minutes": round(state.seconds / 60, 1),
                **{f"validation_{name}": round(state.best[name], 4) for name in self.metrics},
                "choices": state.choices,
                "config": told,
            },
            created=datetime.date.today().isoformat(),
        )

    @property
    def _faithful(self) -> str | None:
        """The shipped network from which an adversarial run leads away, itself or by way of another such run."""
        if self.config.adversarial is None or self.start is None:
            return None
        return self.start.faithful or (self.config.start_from if self.config.start_from in CARDS else None)

    def _draw(self, sheet: Tensor, psnr_y: float, images_seen: int) -> None:
        """The sample sheet and the curve so far."""
        assert self.log is not None, "only the leader draws"
        path = self.folder / "samples" / f"{images_seen:012d}.png"
        path.parent.mkdir(exist_ok=True)
        write_image(Frame.of(sheet), path, overwrite=True)
        self.log.picture("samples", sheet, images_seen)
        draw_curve(self.folder, "validation/psnr_y", (images_seen, psnr_y), "validation psnr_y in dB")


def second_time(call: Callable[[], object]) -> float:
    """Seconds that a call takes once its kernels are chosen and its memory is allocated; it is made twice."""
    call()
    started = time.monotonic()
    call()
    return time.monotonic() - started


def whole_start(config: RestorerConfig) -> ModelCard | None:
    """The card of the model that a run starts from, where its network is the run's: all of it was taken over.

    None for another project's model as well, and for one that is gone since.
    """
    if config.start_from is None:
        return None
    try:
        card = read_header(find_weights(config.start_from)).card
    except ModelError:
        return None
    return card if (card.net, card.options) == (config.net.name, config.net.options) else None


def whole_pairs(photos: PhotoFolder | PairFolder, chain: Chain | Given, multiple: int) -> list[Pair]:
    """What is kept apart for validation as (degraded, target), each (1, C, H, W) in [0, 1], of at most `MOST_PX`."""
    if isinstance(photos, PairFolder):
        assert isinstance(chain, Given), "pairs are given"
        most_px = MOST_PX // chain.scale
        return [whole_pair(middle_pair(pair, most_px), chain, multiple) for pair in photos.validation]
    assert isinstance(chain, Chain), "photographs are degraded by a recipe"
    return [degrade_whole(middle(photo, MOST_PX), chain, k, multiple) for k, photo in enumerate(photos.validation)]


def is_better(scores: dict[str, float], state: TrainState, adversarial: AdversarialConfig | None) -> bool:
    """Whether these are better than the state's best: by psnr_y alone, or as `AdversarialConfig.most_db` tells."""
    best = state.best
    if not best or adversarial is None:
        return scores["psnr_y"] > best.get("psnr_y", float("-inf"))
    least = state.extras["start"]["psnr_y"] - adversarial.most_db
    if min(scores["psnr_y"], best["psnr_y"]) < least:
        return scores["psnr_y"] > best["psnr_y"]
    return scores["spectrum"] < best["spectrum"]


def sheet_row(degraded: Tensor, restored: Tensor, target: Tensor) -> Tensor:
    """The middle of one photograph as degraded (nearest-enlarged) | restored | target: uint8 (3, side, 3 * side)."""
    enlarged = F.interpolate(degraded[:, : target.shape[1]], size=target.shape[-2:], mode="nearest")
    crops = [middle(image[0], SHEET_PX) for image in (enlarged, restored, target)]
    return from_float(torch.cat(crops, dim=2), "uint8")


def stacked(rows: list[Tensor]) -> Tensor:
    """Rows below each other, narrower ones filled up with black."""
    widest = max(row.shape[2] for row in rows)
    return torch.cat([F.pad(row, (0, widest - row.shape[2])) for row in rows], dim=1)


def draw_curve(folder: Path, name: str, newest: tuple[int, float], title: str) -> None:
    """Write `curve.svg` into a run folder: what its history has as `name`, then the newest (images seen, value)."""
    points = [(row["images_seen"], row[name]) for row in read_history(folder) if row.get(name) is not None]
    write_whole(folder / "curve.svg", curve([*points, newest], title))


def curve(points: list[tuple[int, float]], title: str) -> str:
    """An SVG of values over images seen, with first, best and last value written beside it."""
    width, height = CURVE_PX
    last_x = max(1, points[-1][0])
    low, high = min(y for _, y in points), max(y for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        return 20 + (width - 110) * x / last_x, height - 40 - (height - 90) * (y - low) / max(1e-9, high - low)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    # the last value stands at the end of the line, the best above it, so that neighbours do not overlap
    marked = {points[0]: (7, 15), max(points, key=lambda point: point[1]): (-18, -8), points[-1]: (7, 4)}
    labels = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#06c"/>'
        f'<text x="{x + right:.1f}" y="{y + down:.1f}">{value:.3f}</text>'
        for (x, y), (right, down), value in ((place(*point), shift, point[1]) for point, shift in marked.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#fff"/><text x="20" y="24" font-size="14">{title}</text>'
        f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>{labels}'
        f'<text x="{width - 20}" y="{height - 10}" text-anchor="end">{last_x:,} images seen</text></svg>\n'
    )


def commit() -> str:
    """The commit of the source tree this package runs from, or '' for an installed one."""
    source = Path(__file__).parents[3]
    if not (source / ".git").exists():  # whatever repository an installed package lies in is not ours
        return ""
    command = ["git", "-C", str(source), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
