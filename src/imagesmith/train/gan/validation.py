"""What a GAN's run shows and keeps: samples of fixed latents, distances to pictures, curves, the best model."""

import datetime
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagesmith.configs import GanConfig
from imagesmith.data.files import Frame, write_image
from imagesmith.data.grid import Panel, draw_curves, image_grid
from imagesmith.data.held_out import one_of_each_stretch
from imagesmith.evaluate.extractors import Extractor, load_extractor
from imagesmith.metrics.sets import FeatureStatistics, frechet_distance
from imagesmith.nets import NetSpec
from imagesmith.runtime.log import read_history
from imagesmith.tensors import from_float, generator_for
from imagesmith.train.gan.health import compare_sets
from imagesmith.train.gan.pictures import Pictures
from imagesmith.train.gan.watch import GanWatch
from imagesmith.train.machine import Arithmetic
from imagesmith.train.run import Session
from imagesmith.train.state import TrainState
from imagesmith.train.validation import commit, second_time
from imagesmith.zoo import ModelCard, describe, save_model

EXTRACTOR = "cifarcnn"
"""The shipped classifier whose features tell how far fakes are from pictures."""
SHEET = 64
"""Fixed latents that are drawn, and compared with as many pictures."""
FAKES = 2000
"""Fakes in the distance; a few more or less change it, so it compares the moments of a run, not runs."""
COMPARED = 500
"""Fakes and pictures that are compared one by one, for diversity and coverage."""
CURVES = (
    Panel("Frechet distance to pictures", (f"validation/fd_{EXTRACTOR}",), logarithmic=True),
    Panel("losses", ("loss/discriminator", "loss/generator")),
    Panel("pairs told apart (mean sign)", ("logits/sign",)),
    Panel("gradient norms", ("norm/generator", "norm/discriminator"), logarithmic=True),
    Panel("diversity and coverage of fakes", ("validation/diversity", "validation/coverage")),
    Panel("augmentation strength", ("augment",)),
)
_FIXED = 3


class GanValidation:
    """Called with the state, on the leader only: draws and scores the averaged generator, and keeps the best one."""

    def __init__(
        self, config: GanConfig, pictures: Pictures, arithmetic: Arithmetic, session: Session, watch: GanWatch
    ) -> None:
        self.config, self.pictures, self.arithmetic = config, pictures, arithmetic
        self.session, self.watch = session, watch
        self.commit = commit()  # now: the source tree may change under a running process
        if session.log:
            self._begin()

    def _begin(self) -> None:
        pictures = self.pictures
        device = self.arithmetic.device
        self.extractor: Extractor = load_extractor(EXTRACTOR, device=device)
        # with enough of them, what fakes are compared with is what the networks never saw
        apart = pictures.held_out if len(pictures.held_out) >= FAKES // 2 else pictures.training
        shown, self.labels = pictures.some(pictures.training, FAKES)
        self.reals = self.extractor(pictures.some(apart, FAKES)[0])
        self.statistics = FeatureStatistics.of([self.reals])
        self._write("reals.png", image_grid(shown[torch.randperm(len(shown), generator=generator_for(_FIXED))[:SHEET]]))

    @torch.no_grad()
    def __call__(self, state: TrainState) -> dict[str, float]:
        log = self.session.log
        assert log is not None, "only the leader validates"
        grid = image_grid(self._fakes(state, SHEET))
        self._write(f"samples/{state.images_seen:012d}.png", grid)
        log.picture("samples", grid, state.images_seen)
        features = self.extractor(self._fakes(state, FAKES))
        name = f"fd_{EXTRACTOR}"
        distance = frechet_distance(self.statistics, FeatureStatistics.of([features]))
        if math.isfinite(distance) and distance < state.best.get(name, math.inf):
            state.best = {name: distance, "images_seen": state.images_seen}
            save_model(self.session.folder / "model.safetensors", state.averages["generator"], self._card(state))
        nearer = state.best.get("images_seen") == state.images_seen
        compared = self.reals[one_of_each_stretch(COMPARED, len(self.reals))]
        signs = compare_sets(compared, features[:COMPARED])
        scores = {
            f"validation/{name}": distance,
            "validation/diversity": signs.diversity,
            "validation/coverage": signs.coverage,
            "validation/precision": signs.precision,
            "augment": state.extras["strength"]["strength"],
            "gamma_factor": state.extras["gamma_factor"],
        }
        self._draw(state.images_seen, scores)
        diagnosis = self.watch.tick(state, replace(signs, nearer=nearer))  # may end the run
        best = "the best so far" if nearer else describe_best(state)
        self.session.say(
            f"{name} {distance:.2f} between {len(features):,} fakes and the pictures, lower is better ({best}); "
            f"diversity {signs.diversity:.2f} of theirs; {diagnosis}"
        )
        return scores

    @torch.no_grad()
    def rehearse(self, state: TrainState) -> float:
        """Seconds that a call will take, by a sheet's part of it."""
        seconds = second_time(lambda: self.extractor(self._fakes(state, SHEET)).cpu())
        return seconds * (SHEET + FAKES) / SHEET

    def _fakes(self, state: TrainState, count: int) -> Tensor:
        """The averaged generator's images of the first `count` fixed latents, uint8."""
        generator: Any = state.averages["generator"]
        rng = generator_for(self.config.run.seed, _FIXED)
        latents = torch.randn(FAKES, generator.latent_size, generator=rng)[:count]
        labels = self.labels[torch.randint(len(self.labels), (FAKES,), generator=rng)[:count]]
        made = []
        for latent, label in zip(latents.split(SHEET), labels.split(SHEET), strict=True):
            with self.arithmetic.autocast():
                given = self.arithmetic.place(label) if generator.classes else None
                images = generator(self.arithmetic.place(latent), given)
            made.append(from_float((images.float().cpu() + 1) / 2, "uint8"))
        return torch.cat(made)

    def _card(self, state: TrainState) -> ModelCard:
        config, spec = self.config, state.choices["nets"]["generator"]
        told = config.model_dump(mode="json", exclude={"run": {"out"}, "data": {"folder"}})
        if config.start_from:  # a card travels: it tells no folder of the machine that trained
            told["start_from"] = Path(config.start_from).name
        return describe(
            state.averages["generator"],
            NetSpec(**spec),
            config.preset,
            task="generate",
            class_names=self.pictures.whole.class_names,
            train_data=f"{len(self.pictures.training):,} pictures of '{Path(config.data.folder).name}'",
            commit=self.commit,
            training={
                "images_seen": state.images_seen,
                "minutes": round(state.seconds / 60, 1),
                **{f"validation_{name}": round(value, 4) for name, value in state.best.items() if "fd" in name},
                "choices": state.choices,
                "config": told,
            },
            created=datetime.date.today().isoformat(),
        )

    def _write(self, name: str, image: Tensor) -> None:
        path = self.session.folder / name
        path.parent.mkdir(exist_ok=True)
        write_image(Frame.of(image), path, overwrite=True)

    def _draw(self, images_seen: int, scores: dict[str, float]) -> None:
        """`curves.png`: distance, diversity, losses and pair signs over the images seen."""
        rows = [*read_history(self.session.folder), {"images_seen": images_seen} | scores]
        self._write("curves.png", draw_curves(rows, CURVES))


def describe_best(state: TrainState) -> str:
    """The best score so far and when it was reached, in words."""
    name = f"fd_{EXTRACTOR}"
    if name not in state.best:
        return "no generator was scored"
    return f"best {name} {state.best[name]:.2f} at {state.best['images_seen']:,.0f} images"
