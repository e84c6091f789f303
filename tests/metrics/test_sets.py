"""Set metrics against independent arithmetic, and the laws that every one of them keeps."""

import numpy as np
import pytest
import scipy.linalg
import torch
from skimage import data
from torch import Tensor

from imagesmith.errors import ModelError, UsageError
from imagesmith.metrics.sets import FeatureStatistics, frechet_distance, kernel_distance, sliced_wasserstein
from imagesmith.tensors import generator_for


def features(count: int, size: int = 24, *, shift: float = 0, scale: float = 1, seed: int = 1) -> Tensor:
    """Correlated float32 vectors (count, size)."""
    mixing = torch.randn(size, size, generator=generator_for(0), dtype=torch.float64)
    return (
        torch.randn(count, size, generator=generator_for(seed), dtype=torch.float64) @ mixing * scale + shift
    ).float()


def statistics(*parts: Tensor) -> FeatureStatistics:
    return FeatureStatistics.of(parts)


class TestFeatureStatistics:
    @pytest.mark.parametrize("batch", [1, 7, 64, 500])
    def test_any_batches_give_numpys_moments(self, batch: int):
        """A running sum of squares loses the covariance of features that are far from zero."""
        x = features(500, shift=1000)
        found = statistics(*x.split(batch))
        assert found.count == 500
        torch.testing.assert_close(found.mean, x.double().mean(dim=0), rtol=1e-12, atol=0)
        expected = torch.from_numpy(np.cov(x.double().numpy().T))
        torch.testing.assert_close(found.covariance, expected, rtol=1e-9, atol=1e-9)

    def test_merged_parts_are_the_whole(self):
        """Two processes see half of the images each."""
        x = features(300)
        left, right = statistics(x[:110]), statistics(x[110:])
        left.merge(right)
        left.merge(FeatureStatistics())
        whole = statistics(x)
        assert left.count == whole.count
        torch.testing.assert_close(left.covariance, whole.covariance, rtol=1e-12, atol=1e-12)

    def test_empty_batches_change_nothing(self):
        x = features(30)
        torch.testing.assert_close(statistics(x[:0], x, x[:0]).covariance, statistics(x).covariance, rtol=0, atol=0)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_one_bad_value_is_told(self, value: float):
        """Otherwise the score is NaN, hours later, without a word why."""
        x = features(20)
        x[3, 5] = value
        with pytest.raises(ModelError, match="in 1 of 20 images"):
            statistics(x)

    def test_too_few_vectors_are_noticed(self):
        assert statistics(features(24)).is_singular
        assert not statistics(features(25)).is_singular


class TestFrechetDistance:
    def test_is_the_textbook_formula(self):
        x, y = features(400), features(300, shift=0.4, scale=1.3, seed=2)
        a, b = (np.cov(part.double().numpy().T) for part in (x, y))
        gap = (x.double().mean(dim=0) - y.double().mean(dim=0)).square().sum()
        expected = float(gap) + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
        assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(expected, rel=1e-9)

    def test_of_one_dimension_is_known(self):
        """(mean gap)^2 + (deviation gap)^2."""
        x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [11.0]])
        deviations = 2**0.5, 18**0.5
        expected = 7**2 + (deviations[1] - deviations[0]) ** 2
        assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("count", [2, 10, 24, 200])
    def test_of_equal_sets_is_nothing_even_if_singular(self, count: int):
        """The square root of a singular product gives imaginary numbers or NaN elsewhere."""
        x = features(count)
        assert frechet_distance(statistics(x), statistics(x)) == pytest.approx(0, abs=1e-9)

    def test_a_constant_feature_does_no_harm(self):
        """A dead unit, or a generator that makes one image only."""
        x, same = features(100), features(1).expand(50, -1)
        x[:, 0] = 3
        assert np.isfinite(frechet_distance(statistics(x), statistics(same)))

    def test_is_symmetric_and_grows_with_the_shift(self):
        x = statistics(features(200))
        apart = [statistics(features(200, shift=shift, seed=2)) for shift in (0, 1, 2)]
        distances = [frechet_distance(x, other) for other in apart]
        assert distances == sorted(distances)
        assert frechet_distance(apart[1], x) == pytest.approx(distances[1], rel=1e-9)


class TestKernelDistance:
    def test_is_the_double_sum(self):
        x, y = features(30, 5).double().numpy(), features(20, 5, shift=1, seed=2).double().numpy()

        def kernel(a, b):
            return (np.dot(a, b) / 5 + 1) ** 3

        within = [
            sum(kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1))
            for s in (x, y)
        ]
        across = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
        found = kernel_distance(torch.from_numpy(x), torch.from_numpy(y))
        assert found.value == pytest.approx(sum(within) - 2 * across, rel=1e-10)
        assert found.deviation is None

    def test_is_unbiased_and_its_deviation_holds_the_truth(self):
        """A biased estimate is positive for equal distributions, and the smaller the sets the more."""
        draws = [
            kernel_distance(features(20, 4, scale=0.2, seed=k), features(20, 4, scale=0.2, seed=-k)).value
            for k in range(1, 300)
        ]
        error = float(np.std(draws) / len(draws) ** 0.5)
        assert abs(np.mean(draws)) < 3 * error
        subsets = kernel_distance(features(600, 4), features(600, 4, seed=2), subset_size=100)
        assert subsets.deviation is not None
        assert abs(subsets.value) < subsets.deviation

    def test_depends_on_the_seed_alone(self):
        x, y = features(50), features(50, seed=2)
        first = kernel_distance(x, y, subset_size=20, seed=4)
        torch.rand(3)
        assert kernel_distance(x, y, subset_size=20, seed=4) == first
        assert kernel_distance(x, y, subset_size=20, seed=5) != first

    def test_one_image_is_refused(self):
        with pytest.raises(UsageError, match="at least 2"):
            kernel_distance(features(1), features(5))


class TestSlicedWasserstein:
    @pytest.fixture(autouse=True)
    def _fewer_directions(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("imagesmith.metrics.sets._DIRECTIONS", 64)

    @staticmethod
    def crops(count: int, *, seed: int, side: int = 32) -> Tensor:
        photo = torch.from_numpy(data.coffee().copy()).permute(2, 0, 1)
        rng = generator_for(seed)
        places = [
            (int(torch.randint(300, (), generator=rng)), int(torch.randint(500, (), generator=rng)))
            for _ in range(count)
        ]
        return torch.stack([photo[:, y : y + side, x : x + side] for y, x in places])

    def test_equal_sets_are_at_zero_and_noise_shows_at_the_finest_level(self):
        real, other = self.crops(30, seed=1), self.crops(30, seed=2)
        noise = torch.randint(-40, 41, other.shape, generator=generator_for(3))
        noisy = (other + noise).clamp(0, 255).to(torch.uint8)
        assert sliced_wasserstein(real, real) == {32: 0, 16: 0}
        fresh, worse = sliced_wasserstein(real, other), sliced_wasserstein(real, noisy)
        assert worse[32] > 2 * fresh[32]
        assert worse[16] < 2 * fresh[16]

    def test_blur_is_seen(self):
        real, other = self.crops(30, seed=1), self.crops(30, seed=2)
        blurred = torch.nn.functional.avg_pool2d(other.float(), 5, stride=1, padding=2, count_include_pad=False).byte()
        assert sliced_wasserstein(real, blurred)[32] > 2 * sliced_wasserstein(real, other)[32]

    def test_memory_layout_and_surplus_images_change_nothing(self):
        """Generated images come channels last; a view of them is refused by a kernel that wants them otherwise."""
        real, fake = self.crops(20, seed=1, side=20), self.crops(25, seed=2, side=20)
        expected = sliced_wasserstein(real, fake[:20])
        assert sliced_wasserstein(real, fake.to(memory_format=torch.channels_last)) == pytest.approx(expected, rel=1e-5)

    def test_flat_images_are_no_division_by_zero(self):
        flat = torch.full((5, 1, 8, 12), 7, dtype=torch.uint8)
        assert sliced_wasserstein(flat, flat) == {8: 0}

    def test_tiny_images_are_refused(self):
        tiny = torch.zeros(5, 3, 6, 9, dtype=torch.uint8)
        with pytest.raises(UsageError, match="at least 7x7"):
            sliced_wasserstein(tiny, tiny)


# --- torch-fidelity, where it is installed ---


def test_torch_fidelity_gives_the_same_numbers(torch_fidelity):
    """FID and KID are compared across papers, so they must be the field's to the last printed digit."""
    x, y = features(120), features(120, shift=0.2, seed=2)
    peer = [torch_fidelity.metric_fid.fid_features_to_statistics(part.double()) for part in (x, y)]
    fid = torch_fidelity.metric_fid.fid_statistics_to_metric(*peer, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(fid, rel=1e-9)
    kid = torch_fidelity.metric_kid.kid_features_to_metric(
        x.double(), y.double(), kid_subsets=1, kid_subset_size=120, verbose=False
    )
    assert kernel_distance(x, y).value == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-6)
