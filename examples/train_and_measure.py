"""Train a network for a few minutes and compare it with bicubic on pictures it has not seen.

`python examples/train_and_measure.py photos/ test-photos/ runs/mine 10`
"""

import sys

import imagesmith as ism


def main(photos: str, unseen: str, out: str, minutes: str = "10") -> None:
    config = ism.presets.sr_x2(data=photos, out=out, minutes=float(minutes))
    run = ism.train_restorer(config)  # the same call again goes on where it stopped
    print(f"{run.images_seen} images seen, best validation psnr_y {run.best['psnr_y']:.2f} dB")
    for model in (run.model, "bicubic"):
        report = ism.evaluate_restorer(model, targets=unseen, metrics=["psnr_y"], scale=2)
        print(f"{model}: psnr_y {report.summary['psnr_y']:.2f} dB")


if __name__ == "__main__":
    main(*sys.argv[1:])
