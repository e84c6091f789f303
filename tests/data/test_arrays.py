"""Arrays are read as they are or refused with a word; nothing in them is ever run."""

from pathlib import Path

import numpy as np
import pytest

from imagesmith.data.arrays import load_arrays, load_tensors
from imagesmith.errors import ImagesmithError, NothingUsableError, UsageError

U8 = np.zeros((4, 8, 8), np.uint8)


def test_gray_pictures_get_their_channel_and_labels_their_type(tmp_path: Path) -> None:
    """Digits are saved as (N, H, W) with labels of one byte, which overflow when they are counted with."""
    np.savez(tmp_path / "a.npz", images=U8, labels=np.array([3, 200, 3, 200], np.uint8), more=np.zeros(3))
    images, labels = load_arrays(tmp_path / "a.npz", memory_bytes=1e6)
    assert images.shape == (4, 8, 8, 1)
    assert labels is not None
    assert (labels.dtype, labels.tolist()) == (np.int64, [3, 200, 3, 200])
    np.savez(tmp_path / "b.npz", images=np.zeros((4, 8, 6, 3), np.uint8))
    images, labels = load_arrays(tmp_path / "b.npz", memory_bytes=1e6)
    assert (images.shape, labels) == ((4, 8, 6, 3), None)
    with pytest.raises(UsageError, match="where there is nothing"):
        load_arrays(tmp_path / "misspelt.npz", memory_bytes=1e6)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": U8}, "expected an array 'images' .*, got x"),
        ({"images": U8 / 255}, "as uint8, got float64"),
        ({"images": np.zeros((4, 3, 8, 8), np.uint8)}, "transpose"),
        ({"images": np.zeros((4, 8, 8, 7), np.uint8)}, "1 to 4 channels"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "expected pictures"),
        ({"images": np.zeros((4, 8), np.uint8)}, r"\(N, H, W\)"),
        ({"images": U8, "labels": np.zeros(3, np.int64)}, "4 integers"),
        ({"images": U8, "labels": np.zeros(4)}, "float64"),
        ({"images": U8, "labels": np.array([1, "a", None, 2], dtype=object)}, "Python objects"),
        ({"images": np.array([{"run": "me"}], dtype=object)}, "Python objects"),
    ],
)
def test_wrong_arrays_are_told(tmp_path: Path, arrays: dict, said: str) -> None:
    """Loading a pickled array runs whatever its maker wanted."""
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ImagesmithError, match=said):
        load_arrays(tmp_path / "a.npz", memory_bytes=1e6)


def test_an_array_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """Zeros pack to a thousandth of their size."""
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((100, 100, 100), np.uint8))
    with pytest.raises(UsageError, match=r"at most 0\.0 GB"):
        load_arrays(tmp_path / "a.npz", memory_bytes=1e5)
    (tmp_path / "b.npz").write_bytes(b"PK\3\4 not really")
    with pytest.raises(NothingUsableError, match="cannot be read"):
        load_arrays(tmp_path / "b.npz", memory_bytes=1e5)


def test_weights_come_as_tensors_by_name_and_nothing_else_does(tmp_path: Path) -> None:
    """The accident: one file of weights from somewhere holds a pickle, and reading it runs whatever its maker wanted."""
    np.savez(tmp_path / "a.npz", **{"conv1.weight": np.ones((2, 3), np.float32)})
    assert load_tensors(tmp_path / "a.npz")["conv1.weight"].tolist() == [[1, 1, 1], [1, 1, 1]]
    np.savez(tmp_path / "pickle.npz", odd=np.array([{}], dtype=object))
    np.savez(tmp_path / "text.npz", name=np.array("squeezenet"))
    np.save(tmp_path / "single.npy", np.ones(3))
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    for name in ("pickle.npz", "text.npz", "single.npy", "damaged.npz", "absent.npz"):
        with pytest.raises(NothingUsableError, match="cannot be read"):
            load_tensors(tmp_path / name)
