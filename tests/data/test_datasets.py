"""Training patches: exact, reproducible one by one, and aligned."""

import re

import numpy as np
import pytest
import torch

from imagesmith.data.datasets import DegradedPatches, load_photos
from imagesmith.data.loader import endless_batches
from imagesmith.degrade import Chain, build_degradation
from imagesmith.errors import NothingUsableError, UsageError
from imagesmith.tensors import from_float, generator_for, imresize, to_float


@pytest.fixture
def chain() -> Chain:
    return Chain((build_degradation("bicubic", {"scale": 2}),))


@pytest.fixture
def photos() -> list[torch.Tensor]:
    from skimage import data

    return [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in (data.astronaut(), data.coffee())]


def test_target_degrades_to_the_input(photos, chain):
    """A shift of one pixel between input and target blurs everything the network learns."""
    patches = DegradedPatches(photos, chain, patch_px=24, shrink=(1.0,), seed=0)
    for k in range(8):
        degraded, target = patches[k]
        assert degraded.shape == (3, 24, 24)
        assert target.shape == (3, 48, 48)
        again = to_float(imresize(from_float(target, "uint8"), 0.5), "uint8")
        inner = (slice(None), slice(4, -4), slice(4, -4))
        assert torch.equal(again[inner], degraded[inner])


def test_input_knows_what_lies_beyond_the_patch(photos, chain):
    """An input degraded from the bare patch sees replicated edges that no whole picture has."""
    photo, (degraded, target) = photos[0], DegradedPatches(photos[:1], chain, patch_px=24, shrink=(1.0,), seed=3)[0]
    windows = photo.unfold(1, 48, 1).unfold(2, 48, 1)
    for undo in (lambda x: x, lambda x: x.flip(1), lambda x: x.flip(2), lambda x: x.flip(1, 2)):
        for form in (undo, lambda x: undo(x.transpose(1, 2))):  # noqa: B023 - used at once
            wanted = from_float(form(target), "uint8")
            places = (windows[..., 0, 0] == wanted[:, None, None, 0, 0]).all(dim=0).nonzero()
            for top, left in places.tolist():
                if torch.equal(windows[:, top, left], wanted):
                    crop = photo[:, top - 20 : top + 68, left - 20 : left + 68]
                    expected = chain(to_float(crop, "uint8"), generator_for(0))[:, 10:-10, 10:-10]
                    # columns before rows rounds differently now and then, hence one grey level
                    assert (form(degraded) - expected).abs().max() <= 1.01 / 255
                    return
    pytest.fail("the target is not a part of the photograph")


def test_patch_k_depends_on_seed_and_k_alone(photos, chain):
    patches = DegradedPatches(photos, chain, patch_px=16, shrink=(1.0, 0.6), seed=5)
    later = [patches[k] for k in (9, 3, 7)]
    fresh = DegradedPatches(photos, chain, patch_px=16, shrink=(1.0, 0.6), seed=5)
    assert torch.equal(fresh[3][0], later[1][0])
    other = DegradedPatches(photos, chain, patch_px=16, shrink=(1.0, 0.6), seed=6)
    assert not torch.equal(other[3][0], later[1][0])


def test_small_photograph_still_gives_patches(chain):
    small = torch.randint(0, 256, (3, 50, 61), dtype=torch.uint8)
    degraded, target = DegradedPatches([small], chain, patch_px=24, shrink=(0.5, 1.0), seed=0)[0]
    assert degraded.shape == (3, 24, 24)
    assert target.shape == (3, 48, 48)


def test_patches_lie_anywhere_in_a_photograph_without_room_for_their_context():
    """A chain of wide context would see nothing but the middle of each photograph, the same patch again and again."""
    wide = Chain((build_degradation("jpeg", {}), build_degradation("jpeg", {})))
    photo = torch.arange(60, dtype=torch.uint8).repeat(3, 60, 1)
    patches = DegradedPatches([photo], wide, patch_px=32, shrink=(1.0,), seed=0)
    assert patches.crop_px > 60
    seen = {round(float(value) * 255) for k in range(60) for value in patches[k][1].unique()}
    assert min(seen) < 3
    assert max(seen) > 56


def test_batches_do_not_depend_on_workers_or_processes(photos, chain):
    """Two processes of half a batch, or a worker more, must see the very images that one process sees."""
    patches = DegradedPatches(photos, chain, patch_px=8, shrink=(1.0,), seed=1)
    alone = next(endless_batches(patches, 8, 4, workers=0))
    worker = next(endless_batches(patches, 8, 4, workers=1))
    ranks = [next(endless_batches(patches, 8, 4, workers=0, rank=rank, world=2)) for rank in (0, 1)]
    assert torch.equal(alone[0], worker[0])
    assert torch.equal(alone[0][0::2], ranks[0][0])
    assert torch.equal(alone[1][1::2], ranks[1][1])


def test_broken_and_small_files_are_listed_not_fatal(tmp_path, photos):
    """A float picture beyond white is one of them: clipped, it would teach that all is white; 12 bits of 16, all black."""
    from PIL import Image

    for k, photo in enumerate((*photos, photos[0].flip(1))):
        Image.fromarray(photo.permute(1, 2, 0).numpy()).save(tmp_path / f"good{k}.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "good0.png").read_bytes()[:5000])
    Image.new("RGB", (8, 8)).save(tmp_path / "tiny.png")
    Image.fromarray(np.full((64, 64), 1040, np.float32)).save(tmp_path / "slice.tif")
    Image.fromarray(np.full((64, 64), 4095, np.uint16)).save(tmp_path / "xray.png")
    folder = load_photos(tmp_path, 12, least_px=64)
    assert len(folder.training) == 2
    assert len(folder.validation) == 1
    assert [line.split(":")[0] for line in folder.skipped] == ["broken.png", "slice.tif", "tiny.png", "xray.png"]
    assert "got 1040 to 1040; scale" in folder.skipped[1]
    assert "got at most 4095 of 65535; scale" in folder.skipped[3]


def test_what_is_hidden_under_alpha_is_not_learnt(tmp_path, photos):
    """Cut-out pictures hold leftovers of their background, or black, which networks were trained on unseen."""
    from PIL import Image

    for k, photo in enumerate(photos):
        pixels = np.dstack([photo.permute(1, 2, 0).numpy(), np.full(photo.shape[1:], 255, np.uint8)])
        pixels[:100, :, 3] = 0
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    folder = load_photos(tmp_path, 1, least_px=64)
    for photo in (*folder.training, *folder.validation):
        assert photo[:, :100].min() == 255
        assert any(torch.equal(photo[:, 100:], whole[:, 100:]) for whole in photos)


def test_pictures_of_one_name_in_several_folders_are_all_used(tmp_path, photos):
    """The accident: of the folders that a pattern names, the last one's 0001.png stands for all, and nothing is said."""
    from PIL import Image

    for k, photo in enumerate(photos):
        for j, part in enumerate((photo[:, :200, :200], photo[:, 200:, 200:])):
            path = tmp_path / f"shoot{j}" / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(part.permute(1, 2, 0).numpy()).save(path)
    folder = load_photos(tmp_path / "*" / "*.png", 1, least_px=64)
    assert (len(folder.training), len(folder.validation), folder.skipped) == (3, 1, [])


def test_copies_of_a_validation_photograph_are_not_trained_on(tmp_path, photos):
    """The accident: half of a folder are files saved twice, and the score tells how well they are known by heart."""
    from PIL import Image

    crops = [photo[:, top : top + 190, left : left + 190] for photo in photos for top in (0, 200) for left in (0, 200)]
    for k, crop in enumerate(crops):
        image = Image.fromarray(crop.permute(1, 2, 0).numpy())
        image.save(tmp_path / f"{k}.png")
        image.resize((140, 140)).save(tmp_path / f"{k} copy.jpg", quality=80)
    folder = load_photos(tmp_path, 1, least_px=64)
    assert (len(folder.training), len(folder.validation)) == (14, 1)
    (left_out,) = folder.skipped
    assert re.fullmatch(r"(\d)( copy)?\.\w+: looks like \1( copy)?\.\w+, which is kept apart for validation", left_out)


def test_one_picture_many_times_is_not_enough_to_validate_with(tmp_path, photos):
    from PIL import Image

    for k in range(3):
        Image.fromarray(photos[0].permute(1, 2, 0).numpy()).save(tmp_path / f"{k}.png")
    with pytest.raises(UsageError, match=r"expected different pictures, got 3 copies of 0\.png; add others"):
        load_photos(tmp_path, 1, least_px=64)


def test_folder_without_photographs(tmp_path):
    with pytest.raises(NothingUsableError):
        load_photos(tmp_path, 1, least_px=64)


def test_memory_is_bounded_by_using_the_middles_of_large_photographs(tmp_path, photos):
    """A folder of fifty gigabytes must not fill the machine before the first step."""
    from PIL import Image

    for k, photo in enumerate((photos[0].flip(1), photos[0], photos[0][:, :100, :100])):
        Image.fromarray(photo.permute(1, 2, 0).numpy()).save(tmp_path / f"{k}.png")
    assert load_photos(tmp_path, 1, least_px=64).most_px is None
    folder = load_photos(tmp_path, 1, least_px=64, memory_bytes=500_000)
    assert folder.most_px == 256
    shapes = sorted(tuple(photo.shape) for photo in [*folder.training, *folder.validation])
    assert shapes == [(3, 100, 100), (3, 256, 256), (3, 256, 256)]
    assert torch.equal(folder.training[0], photos[0][:, 128:384, 128:384])
    with pytest.raises(UsageError, match=r"raise data.memory_gb"):
        load_photos(tmp_path, 1, least_px=64, memory_bytes=10_000)
