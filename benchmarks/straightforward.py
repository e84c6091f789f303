"""The script that a user would write: read with Pillow, whole image through the float32 network, save; one by one.

python benchmarks/straightforward.py MODEL IN_FOLDER OUT_FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from imagesmith.zoo import load_model

name, source, destination = sys.argv[1:]
net = load_model(name).net
for path in sorted(Path(source).iterdir()):
    photo = np.array(Image.open(path).convert("RGB"))
    x = torch.from_numpy(photo).permute(2, 0, 1)[None].contiguous().float() / 255
    with torch.no_grad():
        y = net(x)
    restored = (y[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(restored).save(Path(destination) / path.name)
