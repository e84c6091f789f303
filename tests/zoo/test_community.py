"""Weights of other projects: known families become restorers, everything else is refused with its reason."""

import importlib.util
import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from imagesmith.data.files import Frame, ImageMeta
from imagesmith.errors import ModelError
from imagesmith.infer.restore import Restorer
from imagesmith.runtime.device import Runtime
from imagesmith.runtime.tiling import TILE_BYTES, tile_px
from imagesmith.zoo import community, load_model
from imagesmith.zoo.community import FARTHEST_PX, PlainStack
from imagesmith.zoo.pytorch_files import read_state_dict


@pytest.fixture
def stack() -> PlainStack:
    """A small DnCNN that changes the picture visibly."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = PlainStack(channels=1, width=6, depth=4)
        for parameter in net.parameters():
            parameter.data.mul_(2)
    return net


@pytest.fixture
def noisy() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8)


@pytest.fixture
def other_file(tmp_path: Path) -> Path:
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pth")
    return tmp_path / "other.pth"


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".safetensors", ".SAFETENSORS"])
def test_a_dncnn_is_known_by_its_tensors(stack: PlainStack, noisy: np.ndarray, suffix: str, tmp_path: Path) -> None:
    """What the network takes away is the noise: read as the picture itself, the result is gray mud."""
    path = tmp_path / f"some{suffix}"
    tensors = {name: value.contiguous() for name, value in stack.state_dict().items()}
    save_file(tensors, path) if suffix.lower() == ".safetensors" else torch.save(tensors, path)
    restorer = Restorer.load(path, dtype="fp32")
    assert (restorer.card.task, restorer.card.halo, restorer.card.channels) == ("denoise", 4, 1)
    x = torch.from_numpy(noisy)[None, None] / 255
    expected = (x - stack.model(x)).clamp(0, 1).mul(255).round().byte()[0, 0].numpy()
    assert np.abs(restorer(noisy).astype(int) - expected).max() <= 1
    tiled = Restorer.load(path, dtype="fp32", tile=24)(noisy)
    assert np.abs(tiled.astype(int) - expected).max() <= 1
    assert restorer(np.stack([noisy] * 3, axis=2)).shape == (90, 70, 3)  # colour by colour


def test_tensors_may_lie_inside_a_checkpoint(stack: PlainStack, tmp_path: Path) -> None:
    """Trainers save an average beside the weights, under names and prefixes of their own."""
    prefixed = {f"module.{name}": value for name, value in stack.state_dict().items()}
    torch.save({"iter": 5, "params": {"a": torch.zeros(1)}, "params_ema": prefixed}, tmp_path / "run.pth")
    assert load_model(tmp_path / "run.pth").card.net == "community:DnCNN"


@pytest.mark.parametrize("place", ["generator", "g", "network", "ema", "model_ema", "net_g"])
@pytest.mark.parametrize("prefix", ["generator.", "net_g.", "module.netG."])
def test_tensors_lie_where_other_trainers_put_them(stack: PlainStack, place: str, prefix: str, tmp_path: Path) -> None:
    prefixed = {f"{prefix}{name}": value for name, value in stack.state_dict().items()}
    torch.save({"epoch": 3, "params_ema": {}, place: prefixed}, tmp_path / "run.pth")
    assert load_model(tmp_path / "run.pth").card.net == "community:DnCNN"


@pytest.mark.parametrize("name", ["model_best.pth.tar", "pytorch_model.bin", "LAST.PTH.TAR"])
def test_checkpoints_have_other_names_as_well(stack: PlainStack, name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": stack.state_dict()}, tmp_path / name)
    assert load_model(tmp_path / name).card.net == "community:DnCNN"


class Malicious:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_file_is_refused_and_never_runs(zipped: bool, tmp_path: Path) -> None:
    """A model from the web that installs something while it is loaded."""
    path, mark = tmp_path / "model.pth", tmp_path / "mark"
    content = {"params": {"a.weight": torch.zeros(1)}, "x": Malicious(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"mkdir when it is loaded, which is refused") as caught:
        Restorer.load(path)
    assert not mark.exists()
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_bare_pickle_is_named(protocol: int, tmp_path: Path) -> None:
    """'Damaged, fetch it again' said of a file that was made to be run."""
    path, mark = tmp_path / "model.pth", tmp_path / "mark"
    path.write_bytes(pickle.dumps({"x": Malicious(mark)}, protocol))
    with pytest.raises(ModelError, match=r"mkdir when it is loaded, which is refused"):
        load_model(path)
    assert not mark.exists()


def test_a_damaged_pickle_is_no_code(tmp_path: Path) -> None:
    """A file cut short that is told to be an attack; or one whose names give orders to the terminal."""
    path = tmp_path / "model.pth"
    for content, words in (
        (pickle.dumps({"a": [1, 2]})[:9], "another kind of file, or damaged"),
        (b"\x80\x04\x8c\x02\x1b[\x8c\x01m\x93.", "calls something when it is loaded"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=words):
            load_model(path)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_cut_short_is_told_to_be_and_what_to_do(zipped: bool, tmp_path: Path) -> None:
    """'Invalid argument' was all that a half-copied file was told, and some ended in a traceback of `struct`."""
    for width in (2, 6, 64):  # of a few kilobytes torch says another thing than of more
        path = tmp_path / "model.pth"
        torch.save(PlainStack(1, width, 4).state_dict(), path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for left in (len(whole) // 8, len(whole) // 4, len(whole) // 2, len(whole) * 3 // 4, len(whole) - 1):
            path.write_bytes(whole[:left])
            with pytest.raises(ModelError, match=r"cut short\nfetch or copy the file again"):
                read_state_dict(path)


def test_a_safetensors_file_cut_short_is_no_bug(stack: PlainStack, tmp_path: Path) -> None:
    """Newer versions of torch read such files too, and raise an error of their own: `models show` had a bug."""
    path = tmp_path / "model.safetensors"
    save_file({name: value.contiguous() for name, value in stack.state_dict().items()}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged or cut short"):
        read_state_dict(path)


def test_a_dncnn_without_filters_is_refused(tmp_path: Path) -> None:
    """Accepted as a network of width 0, it ended in 'a bug, please report it'."""
    shapes = {0: (0, 1, 3, 3), 2: (0, 0, 3, 3), 4: (1, 0, 3, 3)}
    tensors = {f"model.{k}.weight": torch.zeros(shape) for k, shape in shapes.items()}
    tensors |= {f"model.{k}.bias": torch.zeros(shape[0]) for k, shape in shapes.items()}
    torch.save(tensors, tmp_path / "empty.pth")
    with pytest.raises(ModelError, match=r"one filter a layer and more, got none in .*\nsave the network again"):
        load_model(tmp_path / "empty.pth")


def test_a_dncnn_of_whole_numbers_is_refused(stack: PlainStack, tmp_path: Path) -> None:
    """Quantised weights cast without their scale are noise, which was taken away from pictures without a word."""
    tensors = stack.state_dict()
    tensors["model.2.weight"] = (tensors["model.2.weight"] * 100).to(torch.int8)
    torch.save(tensors, tmp_path / "quantised.pth")
    with pytest.raises(ModelError, match=r"got int8 in 'model\.2\.weight' of .*\nsave the network again"):
        load_model(tmp_path / "quantised.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(stack: PlainStack, value: float, tmp_path: Path) -> None:
    """A training gone wrong loaded, 'sees farther than 64 px', and only then blamed the picture."""
    tensors = {name: tensor.half() for name, tensor in stack.state_dict().items()}
    tensors["model.4.bias"][1] = value
    torch.save(tensors, tmp_path / "broken.pth")
    with pytest.raises(ModelError, match=r"finite, got NaN or infinity in 'model\.4\.bias' of .*\nfetch or copy"):
        load_model(tmp_path / "broken.pth")


def test_a_missing_file_is_told_what_to_do(tmp_path: Path) -> None:
    """What cannot be read is all that was said."""
    with pytest.raises(ModelError, match=r"No such file or directory\ncheck the path"):
        read_state_dict(tmp_path / "none.pth")


def test_a_missing_package_is_named(other_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback of an import tells nobody what to install."""
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ModelError, match=r"package spandrel.*pip install 'imagesmith\[community\]'"):
        load_model(other_file)


def test_a_torchvision_that_does_not_fit_is_not_all_that_is_said(
    other_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that nobody knows, and the user is sent to reinstall torchvision without a word about the file."""
    (tmp_path / "spandrel.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(community.importlib.metadata, "version", lambda name: "1.2")
    with pytest.raises(
        ModelError, match=r"other\.pth' without.*\nit is no DnCNN.*torchvision 1\.2\): operator"
    ) as caught:
        load_model(other_file)
    assert len(str(caught.value).splitlines()) == 3


# --- with something in the place of spandrel, which few machines have ---


class Shrunk(nn.Module):
    """Sees whole cells of four pixels, wherever the picture begins, and with `pooled` all of it."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.pooled, self.down, self.up = pooled, nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 48, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(x)
        y = y * y.mean(dim=(2, 3), keepdim=True).sigmoid() if self.pooled else y
        return x + nn.functional.pixel_shuffle(self.up(y), 4)


class Windowed(nn.Module):
    """Sees windows of eight pixels and, faintly, what lies 80 pixels to the left."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = nn.functional.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        windows = nn.functional.avg_pool2d(padded, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
        faint = 0.002 * nn.functional.pad(x, (80, 0, 0, 0), mode="replicate")[..., :width]
        return x + self.weight * windows[..., :height, :width] + faint


class Gated(nn.Module):
    """Sees all of the picture through one ReLU, which is off for one half of all weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(width, 1, 1), nn.Conv2d(1, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        return self.tail(y * self.excite(self.squeeze(y.mean(dim=(2, 3), keepdim=True)).relu()).sigmoid())


class Found:
    """What spandrel says about a network."""

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str = "Family",
        channels: int = 3,
        tags: tuple[str, ...] = (),
        multiple_of: int = 4,
    ) -> None:
        self.model, self.scale, self.tags = model, 1, tags
        self.input_channels = self.output_channels = channels
        self.architecture = types.SimpleNamespace(name=name)
        self.size_requirements = types.SimpleNamespace(minimum=0, multiple_of=multiple_of, square=False)
        self._call_fn = lambda model, image: model(image)


@pytest.fixture
def spandrel(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A stand-in that finds `spandrel.found`, an exception or a description."""

    class UnsupportedModelError(Exception):
        pass

    class Loader:
        def __init__(self, device: str) -> None:
            pass

        def load_from_state_dict(self, tensors: dict[str, Tensor]) -> Found:
            if isinstance(module.found, Exception):
                raise module.found
            return module.found

    families = [types.SimpleNamespace(architecture=types.SimpleNamespace(name=name)) for name in ("Family", "Other")]
    module = types.SimpleNamespace(
        ModelLoader=Loader,
        UnsupportedModelError=UnsupportedModelError,
        ImageModelDescriptor=Found,
        MAIN_REGISTRY=types.SimpleNamespace(architectures=lambda: families),
        found=UnsupportedModelError(),
    )
    monkeypatch.setitem(sys.modules, "spandrel", module)  # type: ignore[arg-type]
    return module


@pytest.mark.parametrize("pooled", [False, True])
def test_tiles_are_exact_where_that_was_measured(spandrel, pooled: bool, other_file: Path) -> None:
    """A network that looks at the whole picture gives other tiles than the whole; one on a grid, if cut beside it."""
    torch.manual_seed(1)
    spandrel.found = Found(Shrunk(pooled))
    model = load_model(other_file)
    assert model.net.halo_is_exact is not pooled
    assert model.card.halo == (FARTHEST_PX if pooled else 4)
    assert ("not exact" if pooled else "are exact") in model.card.description
    picture = torch.rand(1, 3, 90, 110)
    whole = Restorer.load(other_file, tile="off")(picture)
    restorer = Restorer.load(other_file, tile=18)
    assert str(restorer.runtime).startswith("cpu fp32")
    if not pooled:
        assert torch.allclose(restorer(picture), whole, atol=1e-5)
    frame = Frame(picture[0].permute(1, 2, 0).contiguous(), "float32", ImageMeta("tif", ""))
    assert any("seams" in note for note in restorer.frame(frame).meta.notes) is pooled


class Hasty(nn.Conv2d):
    """Scales what it is given where that lies."""

    def forward(self, x: Tensor) -> Tensor:
        x *= 255
        return super().forward(x) / 255


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_network_that_writes_into_its_input_takes_pictures_of_all_kinds(
    spandrel, channels: int, other_file: Path
) -> None:
    """RCAN ended in 'a bug' on gray and transparent pictures, and mixed those that it had spoilt with its result."""
    spandrel.found = Found(Hasty(3, 3, 3, padding=1), multiple_of=1)
    assert load_model(other_file).net.halo_is_exact
    weak, whole = (Restorer.load(other_file, strength=strength) for strength in (0.5, 1))
    picture = torch.rand(channels, 20, 30)
    assert torch.allclose(weak(picture), (picture + whole(picture)) / 2, atol=1e-5)


class Spectrum(nn.Conv2d):
    """Goes through a transform that takes no bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(super().forward(x)), x.shape[-2:])


def test_a_precision_that_a_network_does_not_take_is_told(spandrel, other_file: Path) -> None:
    """FFTformer and ATD ended in 'a bug, please report it' with --dtype bf16."""
    spandrel.found = Found(Spectrum(3, 3, 3, padding=1))
    with pytest.raises(ModelError, match=r"cannot be computed in bfloat16 \(.*\nuse --dtype fp32"):
        Restorer.load(other_file, dtype="bf16")(torch.rand(3, 8, 8))


def test_windows_keep_to_their_grid_where_no_tiles_are_exact(spandrel, other_file: Path) -> None:
    """Tiles of SCUNet, which sees farther than they overlap, began beside its windows: 100 grey levels of error."""
    spandrel.found = Found(Windowed())
    net = load_model(other_file).net
    assert (net.multiple_of, net.halo, net.halo_is_exact) == (8, FARTHEST_PX, False)


def test_a_branch_that_sees_everything_does_not_hide_behind_a_relu(spandrel, other_file: Path) -> None:
    """One draw of weights left the branch without effect, and its tiles were called exact."""
    for width in (8, 12, 48):
        torch.manual_seed(0)
        spandrel.found = Found(Gated(width))
        assert not load_model(other_file).net.halo_is_exact, width


def test_a_reach_that_nearly_fills_the_overlap_is_exact(spandrel, other_file: Path) -> None:
    """Measured on strips too narrow for its grid besides, a network was said to see farther than it does."""
    spandrel.found = Found(nn.Conv2d(3, 3, (1, 101), padding=(0, 50)), multiple_of=16)
    net = load_model(other_file).net
    assert (net.halo, net.halo_is_exact) == (50, True)


def test_wide_layers_at_a_low_resolution_leave_tiles_large(spandrel, other_file: Path) -> None:
    """Tiles of NAFNet were a sixteenth of what fits: three pixels were computed for each that was kept."""
    low = nn.Sequential(nn.PixelUnshuffle(16), nn.Conv2d(768, 1024, 1), nn.Conv2d(1024, 768, 1), nn.PixelShuffle(16))
    for widest, layers in (
        (16, [nn.Conv2d(3, 16, 1), nn.Conv2d(16, 3, 1), low]),
        (8, [nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 2, stride=2)]),
    ):
        spandrel.found = Found(nn.Sequential(*layers), multiple_of=16)
        assert tile_px(load_model(other_file).net) == TILE_BYTES["cpu"] // (4 * widest)


def test_a_network_is_measured_as_it_is_used(spandrel, other_file: Path) -> None:
    """SwinIR leaves out whole layers by chance while it is trained: its grid was found to be 8 or 16 by the dice."""
    torch.manual_seed(1)
    spandrel.found = Found(nn.Sequential(Shrunk(pooled=False), nn.Dropout(0.5)))
    assert load_model(other_file).card.halo == 4


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("unknown", "known are DnCNN, Family, Other"),
        (ValueError("size mismatch"), "only look like one: size mismatch"),
        (Found(nn.Identity(), name="DRUNet"), "must be told the noise level"),
        (Found(nn.Identity(), tags=("FDnCNN",)), "must be told the noise level"),
        (Found(nn.Identity(), channels=2), "2 channels to 2"),
        (object(), "which fills holes"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(spandrel, found: object, words: str, other_file: Path) -> None:
    """'KeyError: m_head.weight' is not a reason."""
    if found != "unknown":
        spandrel.found = found
    if type(found) is object:
        spandrel.found = types.SimpleNamespace(architecture=types.SimpleNamespace(name="LaMa"))
    with pytest.raises(ModelError, match=words) as caught:
        load_model(other_file)
    assert str(other_file) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


# --- with spandrel itself ---


@pytest.fixture
def real_spandrel():
    """Spandrel imports torchvision, of which restoring needs nothing; its schemas stand in for its compiled part."""
    if not importlib.util.find_spec("spandrel") or not importlib.util.find_spec("torchvision"):
        pytest.skip("needs the extra community")
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import spandrel

    return spandrel


@pytest.mark.filterwarnings("ignore")
def test_windows_of_attention_keep_to_their_grid(real_spandrel, tmp_path: Path) -> None:
    """SwinIR declares no multiple, and gives other pixels when a tile begins beside the window's grid."""
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    options = {"window_size": 8, "depths": [2], "embed_dim": 12, "num_heads": [2], "mlp_ratio": 2}
    net = SwinIR(img_size=64, upsampler="pixelshuffledirect", upscale=2, **options)
    torch.save({"params_ema": net.state_dict()}, tmp_path / "swinir.pth")
    runtime = Runtime(torch.device("cpu"), torch.float32, False, "")  # its probe would take ten seconds
    model = load_model(tmp_path / "swinir.pth")
    restorer, at_once = (Restorer.of(model, tile=tile, runtime=runtime) for tile in (40, "off"))
    assert (restorer.card.net, restorer.scale, restorer.net.multiple_of) == ("community:SwinIR", 2, 8)
    picture = torch.rand(1, 3, 72, 96)
    assert torch.allclose(restorer(picture), at_once(picture), atol=1e-5)


def test_the_dncnn_of_kair_denoises(shared_data: Path) -> None:
    """The loader is right if the file does what its paper says."""
    from skimage import data

    gray = data.camera()[100:228, 150:278]
    noise = np.random.default_rng(0).normal(0, 25, gray.shape)
    noisy = (gray + noise).clip(0, 255).round().astype(np.uint8)
    restored = Restorer.load(shared_data / "weights" / "kair_dncnn_25.pth", dtype="fp32")(noisy)

    def psnr(image: np.ndarray) -> float:
        return float(10 * np.log10(255**2 / np.square(image.astype(float) - gray).mean()))

    assert psnr(restored) > psnr(noisy) + 7.5
