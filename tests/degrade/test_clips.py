"""Degradations of clips: one strength for all frames, chance anew in each."""

from collections.abc import Callable

import pytest
import torch
from skimage import data

from imagesmith.degrade import Chain, build_degradation, degrade_clip
from imagesmith.degrade.clips import H264


def flat(frames: int = 4, side: int = 32) -> torch.Tensor:
    return torch.full((frames, 3, side, side), 0.5)


def test_noise_has_one_strength_and_is_never_the_same_twice():
    """The accident: noise that stands still, which a restorer of films learns to keep; or a strength for each frame."""
    noise = build_degradation("gaussian_noise", {"sigma": [5, 50], "rounded": 0})
    noisy = degrade_clip(noise, flat(), torch.Generator().manual_seed(0)) - 0.5
    strengths = noisy.flatten(1).std(dim=1) * 255
    assert strengths.max() / strengths.min() < 1.1
    between = torch.corrcoef(noisy.flatten(1))
    assert (between - torch.eye(4)).abs().max() < 0.1


@pytest.mark.parametrize("around", ["shuffled", "resize"])
def test_noise_inside_other_parts_is_never_the_same_twice(around: str):
    """The same accident, in recipes that have their noise between a blur and a resize."""
    noise = {"name": "gaussian_noise", "options": {"sigma": [20, 20]}}
    blur = {"name": "gaussian_blur", "options": {"sigma": [0.3, 0.3]}}
    options = {"parts": [noise, blur]} if around == "shuffled" else {"factor": [0.8, 0.8], "between": [noise]}
    noisy = degrade_clip(build_degradation(around, options), flat(), torch.Generator().manual_seed(0)) - 0.5
    between = torch.corrcoef(noisy.flatten(1))
    assert (between - torch.eye(4)).abs().max() < 0.1


def test_what_a_transmission_loses_is_lost_frame_by_frame():
    """The accident: a clip taken for one tall picture, whose last frames are gone and whose first ones are whole."""
    cut = build_degradation("cut_stream", {"kept": [0.5, 0.5]})
    clip = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    kept = (degrade_clip(cut, clip, torch.Generator().manual_seed(1)) == clip).float().mean(dim=(1, 2, 3))
    assert ((kept > 0.3) & (kept < 0.7)).all()


def test_h264_keeps_brightness():
    """The accident: colours that are cut off where they should be rounded make every film a little darker."""
    ramp = torch.arange(256.0).view(16, 16).repeat_interleave(16, 0).repeat_interleave(16, 1) / 255
    clip = ramp.expand(1, 3, -1, -1)
    assert abs(float((H264(crf=(0, 0)).clip(clip, torch.Generator()) - clip).mean())) * 255 < 0.1


def test_a_blur_is_the_same_in_every_frame():
    rng = torch.Generator().manual_seed(1)
    clip = torch.rand(1, 3, 40, 40, generator=rng).expand(3, -1, -1, -1)
    blurred = degrade_clip(build_degradation("motion_blur", {"length": [3, 9]}), clip, rng)
    assert torch.equal(blurred[0], blurred[2])
    assert not torch.allclose(blurred[0], clip[0])


def test_a_chain_shrinks_every_frame_as_it_shrinks_a_picture():
    bicubic = build_degradation("bicubic", {"scale": 4})
    clip = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(2))
    small = degrade_clip(Chain((bicubic,)), clip, torch.Generator())
    assert torch.equal(small[1], bicubic(clip[1], torch.Generator()))


@pytest.mark.parametrize("channels", [1, 3])
def test_h264_keeps_shape_and_worse_quality_is_worse(channels: int):
    rng = torch.Generator().manual_seed(3)
    clip = torch.rand(1, channels, 8, 8, generator=rng).repeat_interleave(4, 2).repeat_interleave(4, 3)
    clip = clip.expand(5, -1, -1, -1)
    good, bad = (H264(crf=(crf, crf)).clip(clip, rng) for crf in (10, 40))
    assert good.shape == bad.shape == clip.shape
    gray = [x.mean(1) for x in (clip, good, bad)]  # its colour has half the resolution
    assert (gray[1] - gray[0]).abs().mean() < 0.5 * (gray[2] - gray[0]).abs().mean()


def test_now_and_then_means_whole_clips():
    part = build_degradation("sometimes", {"part": {"name": "h264", "options": {"crf": [45, 45]}}, "probability": 0.5})
    clip = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    untouched = [torch.equal(degrade_clip(part, clip, torch.Generator().manual_seed(k)), clip) for k in range(12)]
    assert 2 <= sum(untouched) <= 10


def test_a_picture_is_a_clip_of_one_frame():
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(5))
    assert H264()(picture, torch.Generator().manual_seed(0)).shape == picture.shape


def test_the_same_clip_is_compressed_alike_whatever_the_memory_held(fill_what_is_free: Callable[[int, int], None]):
    """The accident: a training that is repeated or resumed learns from other clips where x264 computes by AVX-512."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1) / 255
    clip = torch.stack([photo[:, 40:136, 100 + k : 308 + k] for k in range(25)])
    made = set[bytes]()
    for held in (0, 255, 127):
        fill_what_is_free(held, 400)
        made.add(H264(crf=(25, 25)).clip(clip, torch.Generator().manual_seed(0)).numpy().tobytes())
    assert len(made) == 1
