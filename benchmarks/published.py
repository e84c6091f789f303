"""Published scores of other networks: luma PSNR and SSIM, bicubic input, borders of `scale` pixels cropped.

`source` says where the figures were read; CHECK marks those that nobody here has compared with the paper.
"""

from typing import NamedTuple

CHECK = "unchecked"


class Published(NamedTuple):
    """One published row: scores are (PSNR in dB, SSIM), and what was not found is empty or None."""

    name: str
    scale: int
    params: str
    train_data: str
    set5: tuple[float, float | None]
    set14: tuple[float, float | None] | None
    source: str


_TABLE = "read in a public comparison table"
_FIGURE = "read off a figure in SwinIR's repository"

PUBLISHED = (
    Published("bicubic", 2, "", "", (33.66, 0.9299), (30.24, 0.8688), _TABLE),
    Published("SRCNN", 2, "57 k", "T91 + ImageNet", (36.66, 0.9542), (32.45, 0.9067), _TABLE),
    Published("FSRCNN", 2, "12 k", "T91 + G100", (37.00, 0.9558), (32.63, 0.9088), _TABLE),
    Published("VDSR", 2, "665 k", "BSD + T91", (37.53, 0.9587), (33.03, 0.9124), _TABLE),
    Published("CARN", 2, "1,592 k", "DIV2K and more", (37.76, 0.9590), (33.52, 0.9166), _FIGURE),
    Published("EDSR-baseline", 2, "", "DIV2K", (37.99, 0.9604), (33.57, 0.9175), _TABLE),
    Published("IMDN", 2, "", "DIV2K", (38.00, 0.9605), (33.63, 0.9177), _FIGURE),
    Published("RLFN", 2, "", "DF2K", (38.07, 0.9607), (33.72, 0.9187), _TABLE),
    Published("bicubic", 3, "", "", (30.39, 0.8682), (27.55, 0.7742), _TABLE),
    Published("SRCNN", 3, "57 k", "T91 + ImageNet", (32.75, 0.9090), (29.28, 0.8209), _TABLE),
    Published("FSRCNN", 3, "12 k", "T91 + G100", (33.16, 0.9140), None, _TABLE),
    Published("VDSR", 3, "665 k", "BSD + T91", (33.66, 0.9213), (29.77, 0.8314), _TABLE),
    Published("CARN", 3, "1,592 k", "DIV2K and more", (34.29, 0.9255), (30.29, 0.8407), _FIGURE),
    Published("EDSR-baseline", 3, "", "DIV2K", (34.37, 0.9270), (30.28, 0.8417), CHECK),
    Published("IMDN", 3, "", "DIV2K", (34.36, 0.9270), (30.32, 0.8417), _FIGURE),
    Published("bicubic", 4, "", "", (28.42, 0.8104), (26.00, 0.7027), "read in the supplement of ESRGAN"),
    Published("SRCNN", 4, "57 k", "T91 + ImageNet", (30.48, 0.8628), (27.50, 0.7513), _TABLE),
    Published("ESPCN", 4, "25 k", "T91 + ImageNet", (30.52, 0.8697), (27.42, 0.7606), _TABLE),
    Published("FSRCNN", 4, "12 k", "T91 + G100", (30.70, 0.8657), (27.59, 0.7535), _TABLE),
    Published("SESR", 4, "115 k", "DIV2K", (31.54, 0.8866), (28.12, 0.7712), _TABLE),
    Published("VDSR", 4, "665 k", "BSD + T91", (31.35, 0.8838), (28.01, 0.7674), _TABLE),
    Published("CARN", 4, "1,592 k", "DIV2K and more", (32.13, 0.8937), (28.60, 0.7806), _FIGURE),
    Published("EDSR-baseline", 4, "1,518 k", "DIV2K", (32.09, 0.8938), (28.58, 0.7813), _TABLE),
    Published("IMDN", 4, "715 k", "DIV2K", (32.21, 0.8948), (28.58, 0.7811), _FIGURE),
    Published("RFDN", 4, "550 k", "DIV2K", (32.24, 0.8952), (28.61, 0.7819), _TABLE),
    Published("RLFN, pruned", 4, "317 k", "", (32.10, None), (28.60, None), CHECK),
    Published("RLFN", 4, "543 k", "DF2K", (32.24, 0.8952), (28.62, 0.7813), _TABLE),
)
