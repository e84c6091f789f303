"""Beginning with the networks of an earlier run, for other pictures or for more of the same."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from imagesmith.configs import Part
from imagesmith.errors import ConfigError
from imagesmith.runtime.checkpoint import load_newest

FROM_PICTURES = ("size", "channels", "classes")
"""Options of both networks that the pictures decide."""
_PER_CLASS = "embedding."
"""Begins the names of all tensors that depend on the classes and their order."""
_ROWS = ("embedding.weight", "embedding.parametrizations.weight.original")
"""Those with a row for each class, without and with spectral norm."""


@dataclass(frozen=True)
class Start:
    """Two networks as the newest checkpoint of a run holds them."""

    folder: str
    parts: dict[str, Part]
    class_names: tuple[str, ...]
    """What its labels 0, 1, ... mean; none without classes."""
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, folder: str, say: Callable[[str], None]) -> "Start":
        """ConfigError where `folder` is no run of a GAN."""
        found = load_newest(Path(folder) / "checkpoints", say)
        nets = found[1].get("choices", {}).get("nets", {}) if found else {}
        if found is None or nets.keys() != {"generator", "discriminator"}:
            raise ConfigError(
                f"expected the run folder of a GAN with its checkpoints to start from, got '{folder}'\n"
                "a generator alone cannot go on: the discriminator that trained it is only in its run folder"
            )
        parts = {
            role: Part(name=spec["name"], options={k: v for k, v in spec["options"].items() if k not in FROM_PICTURES})
            for role, spec in nets.items()
        }
        class_names = tuple(found[1]["choices"].get("pictures", {}).get("classes", ()))
        return cls(folder, parts, class_names, found[0])

    @property
    def name(self) -> str:
        """What the run is called in messages."""
        return Path(self.folder).name

    def give(self, nets: dict[str, nn.Module], class_names: tuple[str, ...], say: Callable[[str], None]) -> None:
        """Put into `nets`, made for these classes, all that fits; what has another shape, as for another size, is new.

        What a network knows of a class goes to the class of that name, whatever its number is here and there.
        """
        known = [name for name in class_names if name in self.class_names]
        for role, net in nets.items():
            own, prefix = net.state_dict(), f"net/{role}/"
            given = {name.removeprefix(prefix): x for name, x in self.tensors.items() if name.startswith(prefix)}
            fitting = {name: x for name, x in given.items() if name in own and own[name].shape == x.shape}
            if class_names != self.class_names:
                fitting = {name: x for name, x in fitting.items() if not name.startswith(_PER_CLASS)}
                fitting |= self._rows_by_name(own, given, class_names, known)
            if not fitting:
                raise ConfigError(f"nothing of the {role} in '{self.folder}' fits these pictures; start without it")
            net.load_state_dict(own | fitting)
            say(f"{role}: {len(fitting)} of {len(own)} tensors taken over from '{self.name}'")
        if class_names and class_names != self.class_names:
            say(f"{len(known)} of {len(class_names)} classes known by name from '{self.name}'")

    def _rows_by_name(
        self, own: dict[str, Tensor], given: dict[str, Tensor], class_names: tuple[str, ...], known: list[str]
    ) -> dict[str, Tensor]:
        """The tensors with a row for each class: those of `known` ones as given, the others as they are in `own`."""
        here = [class_names.index(name) for name in known]
        there = [self.class_names.index(name) for name in known]
        rows = {}
        for name in _ROWS:
            if known and name in own and name in given and own[name].shape[1:] == given[name].shape[1:]:
                rows[name] = own[name].clone()
                rows[name][here] = given[name][there]
        return rows
