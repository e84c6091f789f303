"""Mend one old photograph: `python examples/mend_photo.py photo.jpg mended.png`."""

import sys

import imagesmith as ism


def main(source: str, target: str, model: str = "inpaint") -> None:
    unscratched = ism.restore(source, model=model, mask="auto")  # scratches are looked for; all else stays bit by bit
    mended = ism.restore(unscratched, task="denoise", strength=0.7)  # a little grain stays
    ism.write_image(mended, target)  # with colour profile and EXIF, which mended.save() leaves out of a JPEG
    print(f"{target}: {mended.width} x {mended.height}")


if __name__ == "__main__":
    main(*sys.argv[1:])
