"""Enlarge one photograph by four: `python examples/enlarge_photo.py photo.jpg large.png`."""

import sys

import imagesmith as ism


def main(source: str, target: str) -> None:
    large = ism.restore(source, scale=4)  # a path in, a PIL image out
    ism.write_image(large, target)  # with colour profile and EXIF, which large.save() leaves out of a JPEG
    print(f"{target}: {large.width} x {large.height}")


if __name__ == "__main__":
    main(*sys.argv[1:])
