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


@dataclass(frozen=True)
class Start:
    """Two networks as the newest checkpoint of a run holds them."""

    folder: str
    parts: dict[str, Part]
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
        return cls(folder, parts, found[0])

    def give(self, nets: dict[str, nn.Module], say: Callable[[str], None]) -> None:
        """Put into `nets` all that fits; what has another shape, for another size or other classes, begins anew."""
        for role, net in nets.items():
            own, prefix = net.state_dict(), f"net/{role}/"
            given = {name.removeprefix(prefix): x for name, x in self.tensors.items() if name.startswith(prefix)}
            fitting = {name: x for name, x in given.items() if name in own and own[name].shape == x.shape}
            if not fitting:
                raise ConfigError(f"nothing of the {role} in '{self.folder}' fits these pictures; start without it")
            net.load_state_dict(own | fitting)
            say(f"{role}: {len(fitting)} of {len(own)} tensors taken over from '{Path(self.folder).name}'")
