"""Does a file of another project reach, through the community loader, what its authors published?

    python benchmarks/community.py --weights kair_dncnn_25.pth --data FOLDER

FOLDER holds the test set cbsd68, or a folder with it. Noise of sigma 25 is neither clipped nor rounded, as the authors
had it. Files for gray pictures are measured on the full-range luma of the photographs, rounded to 8 bits.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from protocols import test_set
from timing import RESULTS, environment, save

from imagesmith import Restorer
from imagesmith.data.files import Frame, read_image, write_image
from imagesmith.evaluate import evaluate_restorer
from imagesmith.tensors import GRAY_WEIGHTS, from_float, to_float

PUBLISHED = {1: 29.23, 3: 31.24}
"""DnCNN at sigma 25 in dB, on BSD68 in gray (Zhang et al. 2017) and on CBSD68 (KAIR), by channels."""
RECIPE = "gaussian_noise:sigma=[25,25],rounded=0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only so many photographs, for a smoke test")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    restorer = Restorer.load(options.weights, dtype="fp32")
    photographs = sorted(test_set(options.data, "cbsd68").iterdir())[: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        for photograph in photographs:
            frame = read_image(photograph)
            write_image(gray(frame) if restorer.card.channels == 1 else frame, Path(folder) / f"{photograph.stem}.png")
        metric = "psnr_gray" if restorer.card.channels == 1 else "psnr_rgb"
        report = evaluate_restorer(restorer, folder, degrade=RECIPE, metrics=[metric])
    measured, published = report.summary[metric], PUBLISHED[restorer.card.channels]
    print(f"{restorer.card.name}: {metric} {measured:.2f} dB on {len(photographs)} photographs, published {published}")
    result = {
        "what": f"{metric} of {options.weights.name}, unclipped Gaussian noise of sigma 25",
        "environment": environment(torch.get_num_threads()),
        "card": restorer.card.description,
        "halo": restorer.card.halo,
        "photographs": len(photographs),
        "measured": measured,
        "published": published,
    }
    save("community", result, options.results)


def gray(frame: Frame) -> Frame:
    """The full-range luma (BT.601) of a colour photograph."""
    light = to_float(frame.pixels, frame.depth)
    luma = (light * light.new_tensor(GRAY_WEIGHTS)).sum(dim=2, keepdim=True)
    return Frame(from_float(luma, "uint8"), "uint8", frame.meta)


if __name__ == "__main__":
    main()
