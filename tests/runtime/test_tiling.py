"""The tiler: tiled = whole, and nothing that goes wrong in one tile may leave a wrong pixel."""

import copy
import math
import random
import time
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagesmith.errors import ImageError, ModelError, UsageError
from imagesmith.nets import NetSpec, build_net
from imagesmith.runtime import tiling
from imagesmith.runtime.device import Runtime, prepare
from imagesmith.runtime.tiling import (
    guarded,
    plan_for,
    plan_tiles,
    run_rows,
    run_strips,
    run_tiled,
)
from imagesmith.tensors import from_float

FLOAT32 = Runtime(torch.device("cpu"), torch.float32, channels_last=True, reason="")
BFLOAT16 = Runtime(torch.device("cpu"), torch.bfloat16, channels_last=True, reason="")


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights large enough that every layer, and every pixel within the halo, shows in the result."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        spread = 1.4 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.2
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return net.eval()


def small_net(scale: int = 2) -> nn.Module:
    return lively(build_net(NetSpec("compact", {"scale": scale, "width": 8, "blocks": 2})))


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


class EvenSizes(nn.Module):
    """A net that works at half size, so that sizes must be even and its receptive field moves in steps of two."""

    scale, channels, planes, multiple_of, halo = 1, 3, 0, 2, 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(F.pixel_unshuffle(x, 2)), 2)

    subpixels = forward

    def fused(self) -> nn.Module:
        return self


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_tiled_is_whole_for_every_size_and_tile(scale: int) -> None:
    """Seams: a halo one pixel too small, or a tile that pads inside the image, shows as a grid in every large photo."""
    net = small_net(scale)
    random.seed(scale)
    sizes = [(1, 1), (1, 33), (29, 1), (2, 3), (net.halo, net.halo), (64, 65)]
    sizes += [(random.randint(1, 70), random.randint(1, 70)) for _ in range(6)]
    for height, width in sizes:
        x = picture(height, width)
        with torch.inference_mode():
            whole = net(x)
        for tile in (random.randint(3, 9), random.randint(10, 40), "auto", "off"):
            plan = plan_tiles(height, width, net.halo, tile, area_px=900)
            tiled = run_tiled(net, x, plan)
            assert tiled.shape == whole.shape
            assert (tiled - whole).abs().max() < 1e-5, f"{height}x{width} in tiles {tile}"


def test_one_pixel_less_halo_is_seen() -> None:
    """If the test above also passed with a halo that is too small, it would prove nothing."""
    net = small_net()
    x = picture(40, 40)
    with torch.inference_mode():
        whole = net(x)
    assert (run_tiled(net, x, plan_tiles(40, 40, net.halo - 1, 20)) - whole).abs().max() > 1e-4


def test_tiles_respect_the_size_multiple_of_a_net() -> None:
    """A net with an inner down-sampling crashes on odd sizes, or samples on another grid in each tile."""
    net = lively(EvenSizes())
    for height, width in [(1, 1), (7, 10), (33, 31)]:
        x = picture(height, width)
        padded = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        with torch.inference_mode():
            whole = net(padded)[:, :, :height, :width]
        for tile in (5, "auto", "off"):
            plan = plan_tiles(height, width, net.halo, tile, area_px=300, multiple_of=2)
            assert (run_tiled(net, x, plan) - whole).abs().max() < 1e-5


def test_a_batch_is_its_images() -> None:
    """Images of a batch must not mix, and keep their order."""
    net, x = small_net(), torch.cat((picture(20, 31), picture(20, 31).flip(3)))
    with torch.inference_mode():
        whole = net(x)
    assert (run_tiled(net, x, plan_tiles(20, 31, net.halo, 8)) - whole).abs().max() < 1e-5


def test_tiles_are_equal_and_within_the_area() -> None:
    """A sliver at the end costs its whole halo again; a tile over the area costs the memory that the area is for."""
    for height, width, halo, area in [(4000, 3000, 16, 1 << 17), (500, 500, 16, 1 << 17), (97, 20000, 9, 1 << 16)]:
        plan = plan_tiles(height, width, halo, area_px=area)
        rows = [b - a for a, b in zip(plan.rows, plan.rows[1:], strict=False)]
        columns = [b - a for a, b in zip(plan.columns, plan.columns[1:], strict=False)]
        assert (sum(rows), sum(columns)) == (height, width)
        assert max(rows) - min(rows) <= 1
        assert max(columns) - min(columns) <= 1
        assert min(max(rows) + 2 * halo, height) * min(max(columns) + 2 * halo, width) <= area * 1.02
        computed = (height + 2 * halo * (len(rows) - 1)) * (width + 2 * halo * (len(columns) - 1))
        assert computed / (height * width) < 1.25


def test_a_small_image_is_one_tile_and_a_narrow_one_full_width_strips() -> None:
    """Each inner cut costs two halos over its length: a tall narrow image must not be cut across."""
    assert len(plan_tiles(180, 320, 16)) == 1
    assert len(plan_tiles(4000, 400, 16).columns) == 2


@pytest.mark.parametrize("tile", [0, -3, "big"])
def test_an_impossible_tile_is_a_usage_error(tile: object) -> None:
    """-t 0 means 'off' in other programs; a silent guess would exhaust the memory of who meant something else."""
    with pytest.raises(UsageError, match="tile"):
        plan_tiles(10, 10, 2, tile)


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_strips_are_the_rounded_whole(depth: str) -> None:
    """Integers are shuffled after rounding: a wrong order of channels or rows here is a scrambled picture."""
    net = small_net(scale=3)
    x = picture(37, 23)
    with torch.inference_mode():
        whole = net(x)[0].permute(1, 2, 0)
    plan = plan_tiles(37, 23, net.halo, 10)
    strips = list(run_strips(net.subpixels, x, plan, scale=3, depth=depth))
    assert [y for y, _ in strips] == [3 * y for y in plan.rows[:-1]]
    got, expected = torch.cat([rows for _, rows in strips]).double(), from_float(whole, depth).double()
    # another tile may round a value that lies on a half the other way
    assert (got - expected).abs().max() <= (1e-5 if depth == "float32" else 1)
    assert (got - expected).ne(0).double().mean() < (1.1 if depth == "float32" else 0.02)


def out_of_memory(kind: str) -> BaseException:
    if kind == "cuda":
        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if kind == "cpu":
        return RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 12 bytes")
    return MemoryError()


@pytest.mark.parametrize("kind", ["cuda", "cpu", "python"])
def test_out_of_memory_makes_tiles_smaller_and_pixels_stay_right(kind: str) -> None:
    """Other programs print the error and paste the tile before: a quarter of the picture shows another place."""
    net, x, tried = small_net(), picture(50, 61), []

    def cramped(crop: Tensor) -> Tensor:
        area = crop.shape[2] * crop.shape[3]
        tried.append(area)
        if area > 900:
            raise out_of_memory(kind)
        return net.subpixels(crop)

    with torch.inference_mode():
        whole = net(x)
    tiled = run_tiled(net, x, plan_tiles(50, 61, net.halo, 40), subpixels=cramped)
    assert (tiled - whole).abs().max() < 1e-5
    assert tried[0] > 900
    assert sum(area > 900 for area in tried) < 8, "what did not fit once must not be tried again in every tile"


def test_memory_that_is_never_enough_is_an_error() -> None:
    """Halving for ever would hang; giving up must be told."""
    with pytest.raises(ImageError, match="out of memory"):
        list(
            run_strips(lambda _: raise_(MemoryError()), picture(64, 64), plan_tiles(64, 64, 4), scale=1, depth="uint8")
        )


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    """A broad except around the computation once hid real faults as 'try a smaller tile'."""
    with pytest.raises(RuntimeError, match="size mismatch"):
        list(
            run_strips(
                lambda _: raise_(RuntimeError("size mismatch")),
                picture(64, 64),
                plan_tiles(64, 64, 4),
                scale=1,
                depth="uint8",
            )
        )


def raise_(error: BaseException) -> Tensor:
    raise error


@pytest.mark.parametrize("bad", [math.nan, math.inf, 300.0])
def test_a_broken_tile_of_low_precision_is_computed_again(bad: float) -> None:
    """Half precision overflows on some photos and machines: black squares, with exit code 0."""
    net, x, told = small_net(), picture(40, 40), []
    net.tail.weight.data.mul_(0.2)
    fast = prepare(net, BFLOAT16)
    plain, calls = fast.subpixels, []

    def sick(crop: Tensor) -> Tensor:
        y = plain(crop).clone()
        calls.append(0)
        if len(calls) == 2:
            y[0, 1, 3, 3] = bad
        return y

    fast.subpixels = sick
    exact = prepare(net, FLOAT32)
    run = guarded(fast, BFLOAT16, lambda: exact, told.append)
    plan = plan_tiles(40, 40, net.halo, 20)
    tiled = run_tiled(net, x, plan, subpixels=run)
    with torch.inference_mode():
        whole = net(x)
    assert len(told) == 1
    assert "float32" in told[0]
    assert (tiled - whole).abs().max() < 0.2
    assert (tiled - whole)[..., :40, 40:].abs().max() < 1e-5, "the second tile is the float32 one"


def test_a_model_broken_in_float32_is_an_error() -> None:
    """Weights with a NaN gave black pictures without a word."""
    net = small_net()
    net.tail.bias.data[0] = math.nan
    with pytest.raises(ModelError, match="finite"):
        run_tiled(net, picture(9, 9), subpixels=guarded(net, FLOAT32, lambda: net))


def test_float32_values_outside_the_range_are_kept() -> None:
    """In float32 a large value is the network's answer, as for bright pixels of a float TIFF."""
    net = small_net()
    net.tail.bias.data.add_(9)
    assert run_tiled(net, picture(9, 9), subpixels=guarded(net, FLOAT32, lambda: net)).max() > 5


def test_the_plan_follows_net_and_precision() -> None:
    """A wider net or a wider number needs a smaller tile for the same memory."""
    net = build_net(NetSpec("compact", {"scale": 1, "width": 64}))
    tiles = [len(plan_for(prepare(net, runtime), 2000, 2000)) for runtime in (BFLOAT16, FLOAT32)]
    assert tiles[0] < tiles[1]


@pytest.mark.parametrize("multiple", [1, 2])
def test_only_the_rows_of_a_strip_are_read(multiple: int) -> None:
    """A picture larger than memory is read from top to bottom: one look back, or at the whole, and it does not fit."""
    net = small_net() if multiple == 1 else lively(EvenSizes())
    x = picture(75, 31)
    plan = plan_tiles(75, 31, net.halo, area_px=700, multiple_of=multiple)
    asked = []

    def read(top: int, bottom: int) -> Tensor:
        asked.append((top, bottom))
        return x[:, :, top:bottom].clone()

    options = {"scale": net.scale, "depth": "float32", "multiple_of": multiple}
    by_rows = [rows for _, rows in run_rows(net.subpixels, read, (75, 31), plan, **options)]
    in_memory = [rows for _, rows in run_strips(net.subpixels, x, plan, **options)]
    assert torch.equal(torch.cat(by_rows), torch.cat(in_memory))
    assert asked == sorted(asked)
    assert asked[-1][1] == 75, "rows below the picture were asked for"
    assert max(bottom - top for top, bottom in asked) <= plan.tallest + 2 * plan.halo < 75


def test_rows_are_let_go_before_the_next_are_read() -> None:
    """The accident: old rows, new rows and what they are put together from, three times what a limit was told."""
    net, held = small_net(), []
    x = picture(75, 31)

    def read(top: int, bottom: int) -> Tensor:
        assert not any(rows() is not None for rows in held)
        rows = x[:, :, top:bottom].clone()
        held.append(weakref.ref(rows))
        return rows

    plan = plan_tiles(75, 31, net.halo, area_px=700)
    for _ in run_rows(net.subpixels, read, (75, 31), plan, scale=net.scale, depth="float32"):
        pass
    assert len(held) == len(plan.rows) - 1 > 1


def test_strips_of_wide_pictures_are_low() -> None:
    """Four strips are on their way to the file at a time: squares of a picture 25,000 pixels wide are a gigabyte."""
    net = build_net(NetSpec("compact", {"scale": 4}))
    plan = plan_for(net, 5000, 25_000, row_bytes=25_000 * 16 * 3)
    assert plan.tallest * 25_000 * 16 * 3 <= tiling.STRIP_BYTES
    assert plan.largest_px <= tiling.tile_px(net)
    assert plan_for(net, 5000, 4000_000, row_bytes=4000_000 * 16 * 3).tallest >= net.halo, "mostly halo is computed"
    narrow = plan_for(net, 3000, 2000)
    assert narrow == plan_for(net, 3000, 2000, strip_bytes=1 << 40), "ordinary pictures are cut as before"


@pytest.mark.slow
def test_the_standard_tile_is_near_the_best(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """TILE_BYTES is a measured number; where it is far off on a machine this says so and prints the sweep."""
    net = build_net(NetSpec("compact", {}))
    x = picture(1000, 1500)
    seconds: dict[int, float] = {}
    standard = tiling.TILE_BYTES["cpu"] >> 20
    for runtime in (FLOAT32, BFLOAT16):
        ready = prepare(copy.deepcopy(net), runtime)
        for mebibytes in (4, 8, 16, standard, 31, 64, 128, 256):
            monkeypatch.setitem(tiling.TILE_BYTES, "cpu", mebibytes << 20)
            plan = plan_for(ready, 1000, 1500)
            times = []
            for _ in range(3):
                start = time.perf_counter()
                for _ in run_strips(ready.subpixels, x, plan, scale=4, depth="uint8"):
                    pass
                times.append(time.perf_counter() - start)
            seconds[mebibytes] = min(times)
            with capsys.disabled():
                print(f"{runtime.dtype} {mebibytes:4d} MiB {len(plan):4d} tiles {seconds[mebibytes]:.2f} s")
        assert seconds[standard] < 1.25 * min(seconds.values())


@pytest.mark.parametrize("tile", ["off", 16])
def test_what_is_rounded_up_is_mirrored_where_asked(tile: tiling.Tile) -> None:
    """The accident: the last column of a noisy picture, repeated seven times, is a row of streaks that stay."""
    net = build_net(NetSpec("unet", {"widths": [4, 4], "blocks": [1, 1]}))
    x = torch.rand(1, 3, 37, 41, generator=torch.Generator().manual_seed(0))
    pad = (0, -41 % net.multiple_of, 0, -37 % net.multiple_of)
    for mirrored, mode in ((True, "reflect"), (False, "replicate")):
        plan = plan_for(net, 37, 41, tile, mirrored=mirrored)
        with torch.no_grad():
            expected = net(F.pad(x, pad, mode=mode))[..., :37, :41]
            torch.testing.assert_close(run_tiled(net, x, plan), expected, atol=1e-5, rtol=0)
