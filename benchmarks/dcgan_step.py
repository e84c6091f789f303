"""One training step of DCGAN at 64x64, batch 64: ours in turns with PyTorch's example, and the loss curves of both.

    python benchmarks/dcgan_step.py [--device cpu] [--threads 2] [--dtype auto] [--rounds 20] [--curve-steps 150]

Both start from the same weights and see the same photographs (patches of scikit-image's) and latents. Ours does what
training does besides: gradient norms and the average of the weights. `--json` prints the result instead of keeping it.
"""

import argparse
import copy
import itertools
import json
import math
import statistics
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from memory import peak
from PIL import Image
from timing import PHOTOS, RESULTS, environment, photo_folder, save, spread, take_turns
from torch import Tensor, nn

from imagesmith.losses.adversarial import OBJECTIVES
from imagesmith.nets.dcgan import DcganDiscriminator, DcganGenerator
from imagesmith.presets import dcgan
from imagesmith.runtime.dist import World
from imagesmith.runtime.graphs import own_stream
from imagesmith.tensors import generator_for, to_float
from imagesmith.train.ema import ema_share, update_ema
from imagesmith.train.loop import IN_A_ROW
from imagesmith.train.machine import Arithmetic, choose_arithmetic, step_seconds
from imagesmith.train.run import UNPLANNED
from imagesmith.train.state import Plan, new_state
from imagesmith.train.steps import GanTerms, Nets, gan_step
from imagesmith.train.turns import WARM_UP, Asked, Computed, steps_ahead, turns_of

SIZE, BATCH, LATENT, WIDTH = 64, 64, 100, 64
WINDOW = 10  # steps over which a curve is averaged before it is compared
TERMS = GanTerms(OBJECTIVES["non_saturating"])
Losses = tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor], Callable[[], Losses]]
"""(pixels uint8 (N, 3, 64, 64), latent (N, 100)) -> what tells the losses of discriminator and generator when asked."""


def peer_generator() -> nn.Sequential:
    """The generator of the example: transposed convolutions, batch norm, ReLU, tanh."""
    layers: list[nn.Module] = []
    maps = (LATENT, 8 * WIDTH, 4 * WIDTH, 2 * WIDTH, WIDTH)
    for before, after in itertools.pairwise(maps):
        stride, padding = (1, 0) if before == LATENT else (2, 1)
        layers += [nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False), nn.BatchNorm2d(after)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.ConvTranspose2d(WIDTH, 3, 4, 2, 1, bias=False), nn.Tanh())


def peer_discriminator() -> nn.Sequential:
    """The discriminator of the example, with the sigmoid that its BCELoss wants."""
    layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for before, after in itertools.pairwise((WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH)):
        layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(*layers, nn.Conv2d(8 * WIDTH, 1, 4, 1, 0, bias=False), nn.Sigmoid())


def peer_step(nets: Nets, device: str) -> Step:
    """A step as in the example: float32, contiguous, reals and fakes propagated back apart, losses read every time."""
    generator, discriminator = peer_generator().to(device), peer_discriminator().to(device)
    for peer, ours in ((generator, nets["generator"]), (discriminator, nets["discriminator"])):
        peer.load_state_dict({name.removeprefix("main."): value for name, value in ours.state_dict().items()})
    criterion = nn.BCELoss()
    optimizers = {
        net: torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (generator, discriminator)
    }

    def step(pixels: Tensor, latent: Tensor) -> Callable[[], Losses]:
        real = (to_float(pixels, "uint8") * 2 - 1).to(device)
        ones, zeros = torch.ones(len(real), device=device), torch.zeros(len(real), device=device)
        discriminator.zero_grad()
        loss_of_reals = criterion(discriminator(real).view(-1), ones)
        loss_of_reals.backward()
        fake = generator(latent.to(device)[:, :, None, None])
        loss_of_fakes = criterion(discriminator(fake.detach()).view(-1), zeros)
        loss_of_fakes.backward()
        optimizers[discriminator].step()
        generator.zero_grad()
        loss = criterion(discriminator(fake).view(-1), ones)
        loss.backward()
        optimizers[generator].step()
        losses = torch.tensor(loss_of_reals.item() + loss_of_fakes.item()), torch.tensor(loss.item())
        return lambda: losses

    return step


def our_step(nets: Nets, arithmetic: Arithmetic) -> Step:
    """A step as training runs it: `gan_step` by the dcgan preset in the given arithmetic."""
    config = dcgan("unused", "unused").optim
    nets = {name: arithmetic.prepare(copy.deepcopy(net)) for name, net in nets.items()}
    state = new_state(nets, config, Plan(UNPLANNED), {"batch": BATCH}, averaged=["generator"], spike=math.inf)
    turns = turns_of(Computed(state, partial(gan_step, terms=TERMS), arithmetic, World()), True, print)

    def step(pixels: Tensor, latent: Tensor) -> Callable[[], Losses]:
        asked = Asked(turns.of(tuple(arithmetic.place(part) for part in batch_of(pixels, latent)), tuple))
        state.images_seen += BATCH
        share = ema_share(state.images_seen, BATCH, config.ema_half_life_images)
        update_ema(state.averages["generator"], nets["generator"], share, asked.refused)

        def heard() -> Losses:
            discriminator, generator = (turn.told[0] for turn in asked.heard())
            return discriminator, generator

        return heard

    return step


def batch_of(pixels: Tensor, latent: Tensor) -> tuple[Tensor, ...]:
    """What `gan_step` takes; labels, augmentations and shares are not used here."""
    return pixels, torch.zeros(len(pixels), dtype=torch.int64), latent, torch.zeros(len(pixels), 2), latent[:, 0]


def photographs() -> list[Tensor]:
    """scikit-image's, uint8 (3, H, W), at half their size: a patch then shows more than a texture."""
    found = []
    for name in PHOTOS:
        photo = Image.open(photo_folder() / name).convert("RGB").reduce(2)
        pixels = torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8)
        found.append(pixels.view(photo.height, photo.width, 3).permute(2, 0, 1))
    return found


def patches(photos: list[Tensor], number: int) -> Tensor:
    """Batch `number` of real images, the same for every candidate."""
    rng = generator_for(1, number)
    chosen = []
    for index in torch.randint(len(photos), (BATCH,), generator=rng).tolist():
        height, width = photos[index].shape[1:]
        top, left = (int(torch.randint(side - SIZE + 1, (), generator=rng)) for side in (height, width))
        chosen.append(photos[index][:, top : top + SIZE, left : left + SIZE])
    return torch.stack(chosen)


def latents(seed: int, number: int) -> Tensor:
    return torch.randn(BATCH, LATENT, generator=generator_for(2, seed, number))


def curve(step: Step, photos: list[Tensor], seed: int, steps: int) -> Tensor:
    """(2, steps // WINDOW): the losses of discriminator and generator, averaged over windows."""
    losses = [torch.stack(step(patches(photos, number), latents(seed, number))()).cpu() for number in range(steps)]
    whole = steps // WINDOW * WINDOW
    return torch.stack(losses[:whole]).float().view(-1, WINDOW, 2).mean(1).T


def compare_curves(
    ours: Callable[[], Step], peer: Callable[[], Step], photos: list[Tensor], steps: int
) -> dict[str, Any]:
    """How far our loss curve is from the peer's with the same latents, and the peer's from its own with others."""
    seeds = range(3)
    peers = [curve(peer(), photos, seed, steps) for seed in seeds]
    own = [curve(ours(), photos, seed, steps) for seed in seeds]

    def distance(a: Tensor, b: Tensor) -> float:
        return round(float((a - b).abs().mean()), 4)

    noise = [distance(a, b) for a, b in itertools.combinations(peers, 2)]
    found = [distance(a, b) for a, b in zip(own, peers, strict=True)]
    return {
        "steps": steps,
        "distance_ours_to_peer_same_latents": found,
        "distance_peer_to_itself_other_latents": noise,
        "agree": statistics.median(found) <= max(noise),
        "ours": [[round(value, 4) for value in line] for line in own[0].tolist()],
        "peer": [[round(value, 4) for value in line] for line in peers[0].tolist()],
    }


def fresh_nets() -> Nets:
    torch.manual_seed(0)
    generator = DcganGenerator(SIZE, latent_size=LATENT, width=WIDTH)
    return {"generator": generator, "discriminator": DcganDiscriminator(SIZE, width=WIDTH)}


def finished(step: Step, device: str, photos: list[Tensor]) -> Callable[[], None]:
    """One call of a step on its next batch; on a GPU of `IN_A_ROW`, together with the wait for the last kernel.

    As in training, a step is heard of when those that are asked for ahead of it are.
    """
    batches = itertools.cycle([(patches(photos, number), latents(0, number)) for number in range(4)])
    asked: deque[Callable[[], Losses]] = deque()

    def run() -> None:
        for _ in range(steps_in_a_call(device)):
            asked.append(step(*next(batches)))
            while len(asked) > steps_ahead(device):
                asked.popleft()()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return run


def steps_in_a_call(device: str) -> int:
    """As many as a training takes on this device before it waits for the last kernel."""
    return IN_A_ROW if device.startswith("cuda") else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", default="auto", choices=["auto", "fp32", "bf16"], help="our arithmetic")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--curve-steps", type=int, default=150, help="0 leaves the curves out")
    parser.add_argument("--only", choices=["ours", "peer"], help="run a few steps of one, to see its memory")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, keep nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    photos = photographs()

    def measured(arithmetic: Arithmetic) -> float:
        return step_seconds(
            fresh_nets(), arithmetic, partial(gan_step, terms=TERMS), *batch_of(patches(photos, 0), latents(0, 0))
        )

    arithmetic, reason = choose_arithmetic(measured, options.device, options.dtype)
    makers: dict[str, Callable[[], Step]] = {
        "ours": lambda: our_step(fresh_nets(), arithmetic),
        "peer": lambda: peer_step(fresh_nets(), options.device),
    }
    if options.only:
        run = finished(makers[options.only](), options.device, photos)
        for _ in range(3):
            run()
        return
    start = environment(options.threads)
    with own_stream(options.device):
        seconds = take_turns(
            {name: finished(make(), options.device, photos) for name, make in makers.items()},
            rounds=options.rounds,
            warm_up=WARM_UP + 2,
        )
        steps = options.curve_steps
        curves = compare_curves(makers["ours"], makers["peer"], photos, steps) if steps else None
    in_a_call = steps_in_a_call(options.device)
    spreads = {name: spread([each / in_a_call for each in values]) for name, values in seconds.items()}
    again = [sys.executable, __file__, "--device", options.device, "--threads", str(options.threads)]
    result: dict[str, Any] = {
        "what": f"a DCGAN training step, {SIZE}x{SIZE}, batch {BATCH}",
        "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device,
        "environment": start,
        "arithmetic": f"{arithmetic}: {reason}",
        "seconds": spreads,
        "speedup": round(spreads["peer"]["median"] / spreads["ours"]["median"], 3),
        "peak_mib": {  # of the machine's memory, which tells nothing where a GPU computes
            name: round(peak([*again, "--dtype", arithmetic.dtype, "--only", name])[0] / 2**20)
            for name in makers
            if options.device == "cpu"
        },
    }
    if curves:
        result["curves"] = curves
    if options.json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    report(result)
    kind = options.device.partition(":")[0]
    save("dcgan_step" if kind == "cpu" else f"dcgan_step_{kind}", result, options.results)


def report(result: dict[str, Any]) -> None:
    """The result in a few lines."""
    print(f"ours computes in {result['arithmetic']}")
    for name, values in result["seconds"].items():
        memory = f", peak {result['peak_mib'][name]} MiB" if name in result["peak_mib"] else ""
        print(f"{name}: {1000 * values['median']:.1f} ms a step{memory}")
    print(f"{result['speedup']:.2f} times as fast as PyTorch's example")
    if curves := result.get("curves"):
        print(
            f"loss curves {'agree' if curves['agree'] else 'DIFFER'} over {curves['steps']} steps: mean distance "
            f"{curves['distance_ours_to_peer_same_latents']} with the same latents, the example's own with others "
            f"{curves['distance_peer_to_itself_other_latents']}"
        )


if __name__ == "__main__":
    main()
