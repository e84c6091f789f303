"""The demo's film: a walk around a motorcycle, made small, enlarged by the command for films, shown side by side."""

from pathlib import Path

import torch
from torch import Tensor

from imagesmith.apps.demo_enlarge import psnr_y
from imagesmith.apps.demo_pictures import packaged_data, write_picture
from imagesmith.apps.report import Chapter, Exhibit
from imagesmith.data.files import read_image
from imagesmith.data.stereo import read_disparity, walk
from imagesmith.data.video import open_video
from imagesmith.data.video.generated import video_writer
from imagesmith.infer.video.once import restore_video
from imagesmith.tensors import imresize

PICTURE, DISPARITY, CREDIT = "motorcycle_left.png", "motorcycle_disp.npz", "Middlebury Stereo 2014, Scharstein et al."
FRAMES, SHARE, FPS, SCALE = 24, 0.2, 12, 4
LEAD = (
    "One picture of a stereo pair, seen from places between its two eyes: the parallax of a real scene, computed from "
    "its measured depth. The film was made a quarter as large by bicubic interpolation and enlarged again by "
    "`imagesmith restore`, which remembers what earlier frames showed, and compressed as any film is."
)


def enlarge_film(out: Path, *, device: str = "auto", dtype: str = "auto", model: str | Path = "vsr-x4") -> Chapter:
    """Enlarge a film of scikit-image's stereo pair; its small frames, itself and a comparison are written to `out`."""
    target = _walk()
    small = torch.stack([imresize(frame, 1 / SCALE) for frame in target])
    frames = out / "motorcycle.frames"
    for k, frame in enumerate(small):
        write_picture(frame, frames / f"{k:04d}.png")
    film = out / "motorcycle.x4.mp4"
    result = restore_video(frames, film, SCALE, model=model, overwrite=True, device=device, dtype=dtype)
    with open_video(film) as reader:
        restored = torch.stack([frame.pixels.permute(2, 0, 1) for frame in reader])
    bicubic = torch.stack([imresize(frame, float(SCALE)) for frame in small])
    gain = psnr_y(restored, target, crop=0) - psnr_y(bicubic, target, crop=0)
    return Chapter(
        title="Enlarging a film",
        summary=f"{len(target)} frames enlarged by {SCALE} in {result.seconds:.1f} s; against bicubic {gain:+.2f} dB "
        "(psnr_y, all frames, after compression)",
        paragraphs=(LEAD,),
        exhibits=(
            Exhibit(
                file=_side_by_side(bicubic, restored, out / "motorcycle.compared.mp4"),
                caption=f"Left bicubic interpolation, right '{result.model}'. {CREDIT}",
                is_wide=True,
            ),
        ),
        said=tuple(result.notes),
    )


def _walk() -> Tensor:
    """The film as it should become, sides a multiple of 8."""
    folder = packaged_data(PICTURE, DISPARITY)
    left = read_image(folder / PICTURE).pixels[..., :3].permute(2, 0, 1)
    views = walk(left, read_disparity(folder / DISPARITY), FRAMES, SHARE)
    height, width = (size // 8 * 8 for size in views.shape[2:])
    return views[..., :height, :width]


def _side_by_side(left: Tensor, right: Tensor, path: Path) -> Path:
    """The left halves of one film beside the same halves of another."""
    half = left.shape[3] // 2
    with video_writer(path, FPS, overwrite=True) as write:
        for pair in zip(left[..., :half], right[..., :half], strict=True):
            write(torch.cat(pair, dim=2).permute(1, 2, 0))
    return path
