"""Our own 3x3 convolutions: what PyTorch computes, to rounding, or nothing at all."""

import pickle
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from imagesmith.nets import NetSpec, build_net
from imagesmith.nets.compact import Pair
from imagesmith.runtime import winograd
from imagesmith.runtime.device import Runtime, prepare
from imagesmith.runtime.winograd import WinogradConv, WinogradPair, install, is_worth_a_try, kernel

OWN = Runtime(torch.device("cpu"), torch.float32, channels_last=True, reason="", winograd=True)
PLAIN = Runtime(torch.device("cpu"), torch.float32, channels_last=True, reason="")


@pytest.fixture
def compiled() -> None:
    if kernel() is None:
        pytest.skip("needs gcc and a processor that is known")


@pytest.fixture
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As on a machine that has never computed so; where the library will lie."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel.cache_clear()
    yield tmp_path / "imagesmith"
    kernel.cache_clear()


def conv(channels: int = 32, to: int = 48, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, to, 3, padding=1, bias=bias).requires_grad_(False)


def own(module: nn.Module) -> nn.Module:
    install(module)
    return module


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("shape", [(1, 32, 8, 8), (1, 32, 1, 1), (1, 32, 3, 70), (2, 32, 13, 9), (1, 32, 66, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution(shape: tuple[int, ...], bias: bool) -> None:
    """Tiles of 4x4 end anywhere but at a picture's edge: a last column, a second picture or a bias may be lost."""
    x, module = torch.randn(shape), conv(bias=bias)
    expected = module(x)
    install(module)
    assert isinstance(module, WinogradConv)
    assert torch.allclose(module(x), expected, atol=1e-4)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(("channels", "to"), [(12, 16), (36, 48), (48, 12), (27, 30)])
def test_missing_channels_are_added_and_cut_off(channels: int, to: int) -> None:
    """The first and the last layer of a network, whose channels are those of pictures."""
    x, module = torch.randn(1, channels, 9, 10), conv(channels, to)
    expected = module(x)
    install(module)
    assert isinstance(module, WinogradConv)
    assert torch.allclose(module(x), expected, atol=1e-4)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("shape", [(1, 16, 1, 1), (2, 32, 13, 9), (1, 16, 300, 7), (1, 32, 90, 130), (1, 16, 64, 700)])
def test_a_pair_takes_the_place_of_what_it_is_given(shape: tuple[int, ...]) -> None:
    """Where a band ends, what the first convolution still reads must not be overwritten by the second."""
    x, pair = torch.randn(shape).contiguous(memory_format=torch.channels_last), Pair(shape[1]).requires_grad_(False)
    pair.second.weight.mul_(10)
    expected = pair(x.clone())
    install(pair)
    assert isinstance(pair, WinogradPair)
    got = pair(x)
    assert torch.allclose(got, expected, atol=1e-3)
    assert got.data_ptr() == x.data_ptr()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(32, 32, 3),
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.Conv2d(3, 32, 3, padding=1),
        nn.Conv2d(48, 8, 3, padding=1),
        nn.ConvTranspose2d(32, 32, 3, padding=1),
    ],
)
def test_what_does_not_suit_is_left_alone(module: nn.Module) -> None:
    """The accident: a stride is overlooked, and the picture is another one."""
    net = nn.Sequential(module)
    assert not is_worth_a_try(net)
    install(net)
    assert type(net[0]) is type(module)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    "spec",
    [
        NetSpec("compact", {"scale": 2, "width": 32, "blocks": 2}),
        NetSpec("unet", {"widths": (16, 32), "blocks": (1, 1)}),
        NetSpec("filling-unet", {}),
        NetSpec("deconvolved-unet", {}),
    ],
)
def test_a_prepared_network_gives_the_same_picture(spec: NetSpec) -> None:
    """Within a hundredth of a grey level; the network that it was made of stays as it is."""
    net = build_net(spec)
    x = torch.rand(1, net.channels + net.planes, 64, 128)
    with torch.inference_mode():
        expected, got = prepare(net, PLAIN)(x), prepare(net, OWN)(x)
    assert (got - expected).abs().max() < 0.01 / 255
    assert any(isinstance(module, WinogradPair) for module in prepare(net, OWN).modules())
    assert not any(isinstance(module, WinogradConv) for module in net.modules())
    assert prepare(net, OWN).state_dict().keys() == net.state_dict().keys()


@pytest.mark.usefixtures("compiled")
def test_films_remember_the_same() -> None:
    net = build_net(NetSpec("recurrent", {"width": 16, "blocks": 1, "flow_width": 8}))
    frames = torch.rand(1, 3, 3, 24, 20)
    with torch.inference_mode():
        assert torch.allclose(prepare(net, OWN).clip(frames), prepare(net, PLAIN).clip(frames), atol=1e-4)


@pytest.mark.usefixtures("compiled")
def test_threads_do_not_change_a_bit() -> None:
    """A pool's processes have one thread each, a single process has all: their results shall be the same bytes."""
    x, module = torch.randn(1, 32, 45, 50), own(nn.Sequential(Pair(32), conv()).requires_grad_(False))
    threads = torch.get_num_threads()
    results: list[Tensor] = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(module(x.clone()))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.usefixtures("compiled")
def test_broken_numbers_are_not_mended() -> None:
    """A ReLU that turns NaN into 0 hides from the guard that a network is broken."""
    x, pair = torch.zeros(1, 32, 40, 40), own(Pair(32).requires_grad_(False))
    x[..., 4, 4] = torch.nan
    assert pair(x)[..., 6, 6].isnan().all(), "only the inner convolution sees so far"


@pytest.mark.usefixtures("compiled")
def test_memory_of_another_kind_is_left_to_pytorch() -> None:
    """A C function reads what it is pointed at: other channels, doubles or one picture alone would be other memory."""
    module = own(conv())
    with pytest.raises(RuntimeError, match="channels"):
        module(torch.zeros(1, 16, 8, 8))
    with pytest.raises(RuntimeError):
        module(torch.zeros(1, 32, 8, 8, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="channels"):
        own(Pair(32).requires_grad_(False))(torch.zeros(1, 16, 8, 8))
    one = torch.randn(32, 8, 8)
    assert torch.allclose(module(one), module(one[None])[0], atol=1e-4)
    assert module(torch.zeros(0, 32, 8, 8)).shape == (0, 48, 8, 8)
    assert module(torch.zeros(1, 32, 8, 8, requires_grad=True)).requires_grad, "who asks for gradients gets none"
    assert module.bfloat16()(one.bfloat16()[None]).dtype == torch.bfloat16


@pytest.mark.usefixtures("compiled")
def test_another_process_computes_the_same_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are sent to worker processes and other machines, one of which may have no compiler."""
    x, pair = torch.randn(1, 16, 10, 10), own(Pair(16).requires_grad_(False))
    sent = pickle.loads(pickle.dumps(pair))
    expected = pair(x.clone())
    assert torch.equal(sent(x.clone()), expected)
    monkeypatch.setattr(winograd, "kernel", lambda: None)
    assert torch.allclose(sent(x), expected, atol=1e-4)


@pytest.mark.usefixtures("compiled", "nothing_known")
@pytest.mark.parametrize("lanes", [4, 16])
def test_other_registers_compute_the_same(monkeypatch: pytest.MonkeyPatch, lanes: int) -> None:
    """The variants for ARM and AVX-512, which no machine of these tests may have; gcc makes do with what there is."""
    usual = winograd._processor_flags() or []
    others = [f"-DLANES={lanes}" if flag.startswith("-DLANES") else flag for flag in usual]
    monkeypatch.setattr(winograd, "_processor_flags", lambda: others)
    assert kernel() is not None


def test_without_a_compiler_nothing_happens(nothing_known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert kernel() is None
    assert not is_worth_a_try(conv())
    assert not list(nothing_known.glob("*.so"))


@pytest.mark.parametrize(
    "why", ["no cache", "another processor", "no source", "a compiler that fails", "a wrong result"]
)
def test_where_it_cannot_be_had_it_is_not_used(nothing_known: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """An old compiler, a read-only home or a miscompiled loop must cost speed, not the picture."""
    if why == "no cache":
        monkeypatch.setenv("IMAGESMITH_NO_CACHE", "1")
    elif why == "another processor":
        monkeypatch.setattr(winograd, "_processor_flags", lambda: None)
    elif why == "no source":  # packages for distribution may leave out what is no Python
        monkeypatch.setattr(winograd, "_SOURCE", nothing_known / "winograd.c")
    elif why == "a compiler that fails":
        monkeypatch.setattr(winograd, "_FLAGS", ("-no-such-option",))
    else:
        monkeypatch.setattr(winograd, "_is_right", lambda _: False)
    assert kernel() is None


@pytest.mark.usefixtures("compiled")
def test_it_is_compiled_once_and_again_only_where_the_file_is_broken(
    nothing_known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command would wait for the compiler, or a cut file would be believed for ever."""
    runs: list[object] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: (runs.append(args), run(*args, **options))[1])
    for _ in range(2):
        assert kernel() is not None
        assert len(runs) == 2, "compiling and linking"
        kernel.cache_clear()
    (library,) = nothing_known.glob("winograd-*.so")
    broken = nothing_known / "other" / "imagesmith" / library.name
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"cut")
    monkeypatch.setenv("XDG_CACHE_HOME", str(broken.parent.parent))
    assert kernel() is not None
    assert len(runs) == 4
