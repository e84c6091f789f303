"""Evaluation of generators: names, floors, labels, provenance, and what is said where it cannot work."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from imagesmith.errors import ImagesmithError, ModelError, NothingUsableError, OutputError, UsageError
from imagesmith.evaluate import evaluate_generator, fake_statistics, load_extractor
from imagesmith.evaluate.extractors import Extractor
from imagesmith.evaluate.fakes import Labels, fakes_of, labels_like
from imagesmith.evaluate.generator import _gathered
from imagesmith.evaluate.nearest import sheet
from imagesmith.evaluate.set_metrics import LEAST_IMAGES, parse_metrics, patch_row, split_reference
from imagesmith.infer.generate import Generator
from imagesmith.metrics.sets import frechet_distance
from imagesmith.nets import NetSpec, build_net
from imagesmith.nets.inception import Inception2015
from imagesmith.zoo import describe, save_model
from imagesmith.zoo.weights import find_weights

NAMES = ("cloth", "skin")


@pytest.fixture(autouse=True)
def _fewer_directions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("imagesmith.metrics.sets._DIRECTIONS", 64)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of a photograph, 16x24, in class folders of unequal size."""
    folder = tmp_path_factory.mktemp("reference")
    photo, rng = data.astronaut(), np.random.default_rng(0)
    for name, count in zip(NAMES, (36, 12), strict=True):
        (folder / name).mkdir()
        for k in range(count):
            y, x = rng.integers(0, 480, 2)
            Image.fromarray(photo[y : y + 16, x : x + 24]).save(folder / name / f"{k:02}.png")
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of a small classifier with random weights."""
    spec = NetSpec("cnn", {"classes": 2, "width": 4, "features": 6, "size": (16, 24)})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = build_net(spec)
    path = tmp_path_factory.mktemp("classifier") / "toy.safetensors"
    save_model(path, net, describe(net, spec, "toycnn", task="classify", class_names=NAMES))
    return path


@pytest.fixture
def generator(make_gan: Callable, tmp_path: Path) -> Path:
    """A weight file of a conditional generator with random weights, of the reference's size and classes."""
    model = make_gan(class_names=NAMES)
    save_model(tmp_path / "gan.safetensors", model.net, model.card)
    return tmp_path / "gan.safetensors"


def test_a_generator_is_measured_with_floor_protocol_and_sheet(
    generator: Path, reference: Path, classifier: Path, tmp_path: Path
):
    """A number without its numbers of images, filter and weights cannot be compared with any other."""
    lines: list[str] = []
    report = evaluate_generator(
        generator, reference, features=classifier, nearest=tmp_path / "sheet.png", report=lines.append
    )
    names = [f"{statistic}_toycnn" for statistic in ("fd", "kid", "precision", "recall", "copies")]
    assert list(report.summary) == [row["name"] for row in report.rows] == [*names, "swd"]
    scores = {row["name"]: row for row in report.rows}
    for name in ("fd_toycnn", "kid_toycnn", "swd"):
        assert scores[name]["value"] > 2 * abs(scores[name]["floor"])
    assert scores["precision_toycnn"]["floor"] > 0.5
    facts = report.provenance
    assert (facts["n_real"], facts["n_fake"]) == (48, 48)
    assert facts["floor"]["n_real"] == facts["floor"]["n_fake"] == 24
    assert len(facts["extractors"]["toycnn"]["sha256"]) == len(facts["weights_sha256"]) == 64
    assert facts["weights"] == "averaged (EMA)"
    assert facts["truncation"] == 1
    assert "antialiased" in facts["extractors"]["toycnn"]["filter"]
    table = report.table()
    assert table.splitlines()[0].split() == ["metric", "value", "deviation", "floor", "better"]
    assert "48 fakes against 48 reals" in table
    assert "24 held-out reals against 24 others; with as many as the score has, fd floors would be about 0.50" in table
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)["summary"] == report.summary
    assert len(facts["nearest"]["fakes"]) == 16
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 4 * 64
    assert lines[0] == f"{generator}: 48 images against 48 real ones", "which of the runs of one preset was measured?"
    assert facts["model"] == str(generator)


def test_images_made_before_score_like_their_generator(
    generator: Path, reference: Path, classifier: Path, tmp_path: Path
):
    """Two ways to one number must agree, or one of them resizes, rounds or labels behind the user's back."""
    gan = Generator.load(generator, device="cpu")
    (tmp_path / "made").mkdir()
    from imagesmith.data.image_sets import load_image_set
    from imagesmith.infer.latents import latents

    labels = labels_like(gan, load_image_set(reference), 48).numbers
    for k, image in enumerate(gan.images(latents(range(48), gan.latent_size), labels)):
        Image.fromarray(image.numpy()).save(tmp_path / "made" / f"{k:02}.png")
    direct = evaluate_generator(gan, reference, features=classifier)
    on_disk = evaluate_generator(tmp_path / "made", reference, features=classifier)
    assert on_disk.summary == pytest.approx(direct.summary, rel=1e-6)


def test_real_images_against_themselves_are_perfect_and_known_as_copies(reference: Path, classifier: Path):
    summary = evaluate_generator(reference, reference, features=classifier).summary
    assert summary["fd_toycnn"] == pytest.approx(0, abs=1e-9)
    assert summary["precision_toycnn"] == summary["recall_toycnn"] == 1
    assert summary["copies_toycnn"] > 0.9
    assert summary["swd"] == 0


class TestLabels:
    def test_are_as_frequent_as_in_the_reference(self, make_gan: Callable, reference: Path):
        """A generator that knows ten classes, measured with even labels on uneven data, loses for nothing."""
        from imagesmith.data.image_sets import load_image_set

        real = load_image_set(reference)
        turned = Generator(make_gan(class_names=NAMES[::-1]), device="cpu")  # the same names, other numbers
        assert labels_like(turned, real, 48).numbers.count(1) == 36
        assert labels_like(Generator(make_gan(), device="cpu"), real, 3).numbers == [None] * 3

    def test_a_reference_of_other_classes_is_one_without_labels(self, make_gan: Callable, reference: Path):
        """The accident: no metric of a generator against another set, not even of patches, for the sake of its labels."""
        gan = Generator(make_gan(class_names=("cloth", "skim")), device="cpu")
        report = evaluate_generator(gan, reference, ["swd"])
        assert "labels every class equally often: the reference has a class that the generator lacks" in report.table()
        assert "'skin' (did you mean 'skim'?)" in report.provenance["labels"]


class TestNames:
    @staticmethod
    def extractor(name: str) -> Extractor:
        return Extractor(name, None, 3, None, torch.device("cpu"))

    def test_only_the_published_inception_makes_a_fid(self):
        """A Frechet distance on other features under the name FID is the field's favourite wrong number."""
        names = ["fid", "kid", "precision"]
        assert [item.name for item in parse_metrics(names, self.extractor("inception"))] == names
        unverified = [item.name for item in parse_metrics(names, self.extractor("inception_unverified"))]
        assert unverified == [f"{name}_inception_unverified" for name in ("fd", "kid", "precision")]
        with pytest.raises(UsageError, match="'fid' needs the 2015 Inception network"):
            parse_metrics(["fid"], self.extractor("toycnn"))
        assert parse_metrics(["fd", "fd_toycnn", "swd"], self.extractor("toycnn"))[0].name == "fd_toycnn"

    def test_shares_need_no_file_of_features(self):
        """The accident: `--metrics copies`, as the documentation writes it, asked for the weights of Inception."""
        assert [item.name for item in parse_metrics(["copies", "recall"], None)] == [
            "copies_cifarcnn",
            "recall_cifarcnn",
        ]
        assert parse_metrics(["copies", "copies_mnistcnn"], None, 1) == parse_metrics(["copies_mnistcnn"], None)

    @pytest.mark.parametrize(
        ("names", "words"),
        [(["fidd"], "did you mean"), (["kid"], "needs the 2015 Inception network"), ([], "at least one metric")],
    )
    def test_impossible_names_say_what_to_do(self, names: list[str], words: str):
        with pytest.raises(UsageError, match=words) as caught:
            parse_metrics(names, None)
        assert str(caught.value).count("\n") <= 2


@pytest.mark.parametrize(("reals", "fakes", "sizes"), [(50, 50, (25, 25)), (50, 8, (42, 8)), (51, 999, (26, 25))])
def test_the_floor_compares_images_with_others(reals: int, fakes: int, sizes: tuple[int, int]):
    """An image on both sides makes the floor too low, and every generator look worse than it is."""
    rest, held = split_reference(reals, fakes)
    assert (len(rest), len(held)) == sizes
    assert sorted(torch.cat([rest, held]).tolist()) == list(range(reals))


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the right layout but not the published ones, without the counters, as old files are."""
    tensors = {name: value for name, value in Inception2015().state_dict().items() if "tracked" not in name}
    path = tmp_path_factory.mktemp("inception") / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(tensors, path)
    return path


class TestExtractors:
    def test_other_weights_than_the_published_are_named_so(self, inception_file: Path):
        """The hash stands in the file's name, where anybody can write it."""
        extractor = load_extractor(inception_file, device="cpu")
        assert extractor.name == "inception_unverified"
        assert "not FID" in extractor.facts["note"]
        gray = torch.randint(0, 256, (2, 1, 8, 9), dtype=torch.uint8)
        assert extractor(gray).shape == (2, 2048)

    def test_the_published_hash_makes_it_inception(self, inception_file: Path, monkeypatch: pytest.MonkeyPatch):
        digest = load_extractor(inception_file, device="cpu").facts["sha256"]
        monkeypatch.setattr("imagesmith.evaluate.extractors.INCEPTION_SHA256", digest)
        assert load_extractor(inception_file, device="cpu").name == "inception"

    @pytest.mark.parametrize("kind", ["text", "other net", "no dict", "code", "absent"])
    def test_a_file_of_another_kind_is_told(self, kind: str, tmp_path: Path):
        path = tmp_path / "weights.pth"
        if kind == "text":
            path.write_text("hello")
        elif kind == "other net":
            torch.save(torch.nn.Linear(2, 3).state_dict(), path)
        elif kind == "no dict":
            torch.save([torch.zeros(2)], path)
        elif kind == "code":
            torch.save(torch.nn.Linear(2, 3), path)
        with pytest.raises(ModelError) as caught:
            load_extractor(path, device="cpu")
        assert str(path) in str(caught.value)
        assert str(caught.value).count("\n") <= 2

    def test_an_own_classifier_has_no_shipped_name(self, tmp_path: Path):
        """The accident: a run's card has its preset's name, and scores on it stood under that of the shipped network."""
        spec = NetSpec("cnn", {"classes": 2, "width": 4, "features": 6, "size": (16, 24)})
        net = build_net(spec)
        card = describe(net, spec, "cifarcnn", task="classify", class_names=NAMES)
        save_model(tmp_path / "model.safetensors", net, card)
        own = load_extractor(tmp_path, device="cpu")
        assert own.name == "cifarcnn_own"
        assert "the shipped 'cifarcnn' has the sha256" in own.facts["note"]
        wanted = parse_metrics(["fd", "fd_cifarcnn"], own)
        assert [item.extractor for item in wanted] == ["cifarcnn_own", "cifarcnn"]
        assert "note" not in load_extractor(find_weights("cifarcnn"), device="cpu").facts, "a copy is the same network"

    def test_a_restorer_gives_no_features(self):
        with pytest.raises(ModelError, match="expected a classifier"):
            load_extractor("sr-x2", device="cpu")

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_any_channels_and_size_are_adapted(self, channels: int, classifier: Path):
        """Gray as colour and its luma are the same picture, so their features are the same."""
        extractor = load_extractor(classifier, device="cpu")
        gray = torch.randint(0, 256, (3, 1, 40, 30), dtype=torch.uint8)
        given = gray.expand(-1, channels, -1, -1).clone()
        if channels in (2, 4):
            given[:, -1] = 255  # opaque
        torch.testing.assert_close(extractor(given), extractor(gray))


class TestFakeStatistics:
    def test_is_what_the_report_says(self, make_gan: Callable, reference: Path, classifier: Path):
        """The curve in training and the number at its end must be one metric."""
        from imagesmith.data.image_sets import load_image_set
        from imagesmith.metrics.sets import FeatureStatistics

        model, extractor = make_gan(), load_extractor(classifier, device="cpu")
        real = FeatureStatistics.of([extractor(load_image_set(reference).images)])
        fake = fake_statistics(model.net, extractor, 48)
        report = evaluate_generator(Generator(model, device="cpu"), reference, ["fd"], features=classifier)
        assert frechet_distance(real, fake) == pytest.approx(report.summary["fd_toycnn"], rel=0.02)

    def test_labels_are_used_in_turn_and_nan_is_told(self, make_gan: Callable, classifier: Path):
        model, extractor = make_gan(class_names=NAMES), load_extractor(classifier, device="cpu")
        seen: list[Tensor] = []
        model.net.register_forward_pre_hook(lambda net, given: seen.append(given[1]))
        assert fake_statistics(model.net, extractor, 5, labels=torch.tensor([0, 1])).count == 5
        assert torch.cat(seen).tolist() == [0, 1, 0, 1, 0]
        for parameter in model.net.parameters():
            parameter.data.fill_(float("nan"))
        with pytest.raises(ModelError, match="NaN"):
            fake_statistics(model.net, extractor, 5, labels=torch.tensor([0]))


class TestBadInput:
    def test_too_few_images_are_told(self, generator: Path, classifier: Path, reference: Path, tmp_path: Path):
        for k in range(LEAST_IMAGES - 1):
            Image.fromarray(data.astronaut()[k : k + 16, :24]).save(tmp_path / f"{k}.png")
        with pytest.raises(NothingUsableError, match=r"at least 10 real images.*got 9"):
            evaluate_generator(generator, tmp_path, features=classifier)
        with pytest.raises(UsageError, match="at least 10 images to measure, got 3"):
            evaluate_generator(generator, reference, features=classifier, images=3)

    def test_fewer_images_than_features_are_told_and_kid_recommended(
        self, make_gan: Callable, classifier: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
    ):
        extractor = load_extractor(classifier, device="cpu")
        wide = Extractor("wide", extractor.net, 3, (16, 24), extractor.device, extractor.facts)
        monkeypatch.setattr(Extractor, "__call__", lambda self, images: images.float().flatten(1)[:, :60])
        monkeypatch.setattr("imagesmith.evaluate.generator.load_extractor", lambda *args, **options: wide)
        report = evaluate_generator(Generator(make_gan(), device="cpu"), reference, ["fd"], features="wide")
        assert "48 images for 60 features" in report.table()
        assert "rely on kid_wide" in report.table()

    def test_shares_of_a_small_set_are_doubted(self, make_gan: Callable, classifier: Path, reference: Path):
        """Noise had a precision of 0.99 against 120 photographs, above the floor of 0.95, and nobody said a word."""
        generator = Generator(make_gan(), device="cpu")
        report = evaluate_generator(generator, reference, ["precision", "kid"], features=classifier)
        assert "precision and recall of 48 images say little" in report.table()
        assert "say little" not in evaluate_generator(generator, reference, ["kid"], features=classifier).table()

    def test_gray_and_mixed_references_are_brought_to_the_generators_form(
        self, make_gan: Callable, classifier: Path, tmp_path: Path
    ):
        for k in range(12):
            picture = Image.fromarray(data.astronaut()[9 * k : 9 * k + 40 + k, 100 : 150 + 2 * k])
            (picture.convert("L") if k % 2 else picture).save(tmp_path / f"{k}.png")
        report = evaluate_generator(Generator(make_gan(), device="cpu"), tmp_path, ["kid"], features=classifier)
        assert np.isfinite(report.summary["kid_toycnn"])

    @pytest.mark.parametrize("model", ["absent", "sr-x2"])
    def test_no_generator_is_told(self, model: str, reference: Path, classifier: Path):
        with pytest.raises(ImagesmithError) as caught:
            evaluate_generator(model, reference, features=classifier)
        assert str(caught.value).count("\n") <= 2

    def test_a_run_without_weights_yet_is_no_folder_of_images(self, reference: Path, classifier: Path, tmp_path: Path):
        """The accident: a run stopped before its first validation was measured by its own sheets of reals and samples."""
        shutil.copytree(reference, tmp_path / "run" / "samples")
        for name in ("config.json", "history.jsonl"):
            (tmp_path / "run" / name).touch()
        with pytest.raises(ModelError, match=r"expected a training run's folder with model\.safetensors"):
            evaluate_generator(tmp_path / "run", reference, features=classifier)

    def test_an_empty_folder_and_a_wrong_truncation_are_told(self, generator: Path, classifier: Path, tmp_path: Path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ImagesmithError, match="empty"):
            evaluate_generator(generator, tmp_path / "empty", features=classifier)
        with pytest.raises(UsageError, match="truncation"):
            evaluate_generator(generator, tmp_path, features=classifier, truncation=1.5)


def test_the_sheet_shows_a_row_for_each_fake():
    """Tiny images are enlarged by a whole factor: a smoothed copy of a training image looks like none."""
    images = torch.arange(2 * 3).view(2, 3, 1, 1, 1).expand(2, 3, 1, 20, 30).to(torch.uint8) * 40
    picture = sheet(images)
    assert picture.shape == (1, 2 * (80 + 4), 3 * (120 + 4) + 8)
    assert picture[0, 40, 60] == 0
    assert picture[0, 130, 330] == 200
    assert set(picture.unique().tolist()) == {0, 40, 80, 120, 160, 200, 255}


def test_many_fakes_stand_in_blocks_of_eight():
    """Sixteen rows below each other are five times as tall as wide, and nobody sees them together."""
    images = torch.arange(9).view(9, 1, 1, 1, 1).expand(9, 4, 1, 64, 64).to(torch.uint8)
    picture = sheet(images)
    assert picture.shape == (1, 8 * 68, 2 * (4 * 68 + 8) + 16)
    assert picture[0, 7 * 68 + 10, 10] == 7
    assert picture[0, 10, 4 * 68 + 8 + 16 + 10] == 8
    assert bool((picture[0, 68:, 4 * 68 + 8 :] == 255).all())


def test_a_sheet_of_images_made_before_shows_all_their_classes(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The accident: of a folder sorted by class the first sixteen were shown, and copies in all others were not."""
    shown: list[tuple[Tensor, list[dict[str, Any]]]] = []
    monkeypatch.setattr(
        "imagesmith.evaluate.generator.write_sheet", lambda path, fakes, reals, found: shown.append((fakes, found))
    )
    np.savez(tmp_path / "sorted.npz", images=(images := _two_classes()).permute(0, 2, 3, 1).numpy())
    source = tmp_path / "sorted.npz"
    evaluate_generator(source, source, ["kid"], features=classifier, nearest=tmp_path / "sheet.png")
    ((fakes, found),) = shown
    nearest = [item["indices"][0] for item in found]
    assert len(nearest) == 16
    assert 2 < sum(position < 64 for position in nearest) < 14
    assert torch.equal(fakes, images[nearest]), "each beside its own neighbours"


@pytest.mark.parametrize(("name", "error"), [("sheet.txt", UsageError), ("none/sheet.png", OutputError)])
def test_a_sheet_that_cannot_be_written_is_told_first(name: str, error: type[ImagesmithError], tmp_path: Path):
    """An hour of measuring, lost to a misspelt folder at its end."""
    with pytest.raises(error):
        evaluate_generator("no model at all", "no reference", nearest=tmp_path / name)


def test_the_command_prints_the_table_and_writes_the_report(
    generator: Path, reference: Path, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """Progress on standard output would end in the pipe that takes the table."""
    from imagesmith.apps.cli import app

    flags = ["--reference", str(reference), "--features", str(classifier), "--metrics", "fd, kid", "--images", "20"]
    app(["evaluate", "generator", str(generator), *flags, "--json", str(tmp_path / "r.json")], standalone_mode=False)
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[:3]] == ["metric", "fd_toycnn", "kid_toycnn"]
    assert "20 images against 48 real ones" in printed.err
    assert json.loads((tmp_path / "r.json").read_text())["provenance"]["n_fake"] == 20


def test_a_part_of_a_set_has_all_its_classes(reference: Path, classifier: Path, tmp_path: Path):
    """The accident: sets are sorted by class, and the first images of one are all of the same."""
    for name, colour in (("a", 0), ("b", 255)):
        (tmp_path / "made" / name).mkdir(parents=True)
        for k in range(40):
            Image.new("RGB", (24, 16), (colour, k, 0)).save(tmp_path / "made" / name / f"{k}.png")
    fakes = fakes_of(tmp_path / "made", truncation=1.0, seed=0, device="cpu")
    (some,) = fakes.batches(40, Labels("as the images have them"))
    assert 5 < int((some[:, 0, 0, 0] == 0).sum()) < 35


def _two_classes() -> Tensor:
    """128 images, sorted by class: 64 crops of a photograph, then 64 of noise."""
    photo, rng = data.astronaut(), np.random.default_rng(0)
    crops = [photo[y : y + 16, x : x + 16] for y, x in rng.integers(0, 480, (64, 2))]
    return torch.from_numpy(np.concatenate((crops, rng.integers(0, 256, (64, 16, 16, 3))))).byte().permute(0, 3, 1, 2)


def test_fewer_fakes_than_reals_are_compared_with_all_classes():
    """The accident: 200 pictures of CIFAR-10 scored 55 instead of 18, compared with as many of the first class."""
    real = _two_classes()
    mixed = real[torch.randperm(128, generator=torch.Generator().manual_seed(0))]
    one_class, all_classes = (patch_row(images, mixed[:32])["value"] for images in (real[:64], mixed[32:]))
    for row in (patch_row(real, mixed[:32]), patch_row(mixed[:32], real)):
        assert row["value"] == pytest.approx(all_classes, rel=0.5)
        assert row["value"] < one_class / 2


def test_the_patches_of_many_fakes_are_of_all_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The accident: of 50,000 sorted fakes the first 16,384 gave their patches, three classes of ten."""
    for module in ("generator", "set_metrics"):
        monkeypatch.setattr(f"imagesmith.evaluate.{module}.SWD_IMAGES", 32)
    np.savez(tmp_path / "sorted.npz", images=_two_classes().permute(0, 2, 3, 1).numpy())
    (row,) = evaluate_generator(tmp_path / "sorted.npz", tmp_path / "sorted.npz", ["swd"]).rows
    assert row["value"] < row["floor"]


@pytest.mark.parametrize(("metrics", "fakes_kept"), [(["swd"], 48), (["kid_toycnn"], 0)])
def test_pixels_are_copied_only_where_patches_are_measured(
    metrics: list[str], fakes_kept: int, reference: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
):
    """The accident: gigabytes of real pixels are copied, and never looked at."""
    kept: list[int] = []

    def gathered(*args: Any, **options: Any) -> Any:
        found = _gathered(*args, **options)
        kept.append(len(found.drawn))
        return found

    monkeypatch.setattr("imagesmith.evaluate.generator._gathered", gathered)
    evaluate_generator(reference, reference, metrics, features=classifier)
    assert kept == [fakes_kept, 0]


def test_reals_that_cannot_be_read_are_told_beside_the_score(reference: Path, classifier: Path, tmp_path: Path):
    """The accident: a third of the reference is broken, and the score against the rest is printed without a word."""
    shutil.copytree(reference, tmp_path / "reals")
    (tmp_path / "reals" / "skin" / "00.png").write_bytes(b"no picture")
    table = evaluate_generator(reference, tmp_path / "reals", ["fd"], features=classifier).table()
    assert "47 fakes against 47 reals" in table
    assert "1 of the reals cannot be used, first:" in table


def test_images_are_measured_in_their_own_size(tmp_path: Path):
    """The accident: images of 160x160 are shrunk to 128x128 behind the user's back, and measured better than they are."""
    (tmp_path / "made").mkdir()
    for k in range(3):
        Image.new("RGB", (160, 150), (k, 0, 0)).save(tmp_path / "made" / f"{k}.png")
    fakes = fakes_of(tmp_path / "made", truncation=1.0, seed=0, device="cpu")
    assert (fakes.size, fakes.notes) == ((150, 160), ())
    Image.new("RGB", (80, 80)).save(tmp_path / "made" / "other.png")
    (tmp_path / "made" / "broken.png").write_bytes(b"no picture")
    fakes = fakes_of(tmp_path / "made", truncation=1.0, seed=0, device="cpu")
    assert any("differ in size" in note for note in fakes.notes)
    assert any("broken.png" in note for note in fakes.notes)


def test_what_alpha_hides_is_no_patch():
    """The accident: two sets that look alike are told apart by the colours of what nobody sees."""
    real, fake = torch.randint(
        0, 256, (2, 64, 4, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    real[:, 3], fake[:, 3, :, 16:], fake[:, 3, :, :16] = 255, 255, 0
    before = patch_row(real, fake)
    fake[:, :3, :, :16] = 9
    assert patch_row(real, fake) == before


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("name", ["cifarcnn", "mnistcnn"])
def test_what_alpha_hides_is_not_scored_and_alpha_is(name: str, colours: int):
    """The accident: images that all look alike were far apart by the colours under their transparent parts."""
    extractor = load_extractor(name, device="cpu")
    colour = torch.randint(0, 200, (2, colours, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    alpha = torch.full((2, 1, 32, 32), 255, dtype=torch.uint8)
    opaque = extractor(torch.cat([colour, alpha], dim=1))
    assert torch.equal(opaque, extractor(colour))
    alpha[..., :16] = 0
    cut = extractor(torch.cat([colour, alpha], dim=1))
    colour[..., :16] = 7
    assert torch.equal(cut, extractor(torch.cat([colour, alpha], dim=1)))
    assert not torch.allclose(cut, opaque, rtol=0.01)
