"""Configurations load strictly: a misspelt key is an error that names the right one."""

import json
from pathlib import Path

import pytest

import imagesmith
from imagesmith import presets
from imagesmith.configs import (
    ClipConfig,
    DataConfig,
    RestorerConfig,
    build_config,
    check_kind,
    load_config,
    override,
    recipe,
)
from imagesmith.errors import ConfigError


@pytest.fixture
def config() -> RestorerConfig:
    return presets.sr_x4(data="photos", out="run")


def test_every_preset_is_complete_and_survives_its_own_file(tmp_path):
    """A preset that cannot be read back makes `--config run/config.json` useless."""
    for name, preset in presets.RESTORER_PRESETS.items():
        config = preset(data="photos", out="run")
        path = tmp_path / f"{name}.json"
        path.write_text(config.model_dump_json())
        assert load_config(path, RestorerConfig) == config
        assert config.preset == name


@pytest.mark.parametrize(
    ("assignment", "nearest"),
    [
        ("optim.learning_rat=1", "did you mean 'learning_rate'"),
        ("data.patch=32", "did you mean 'patch_px'"),
        ("optm.plateau=0.5", "did you mean 'optim'"),
        ("net.optoins={}", "did you mean 'options'"),
    ],
)
def test_a_misspelt_key_names_the_nearest(config, assignment, nearest):
    """A misspelt hyperparameter that is ignored trains the default and nobody notices (StudioGAN)."""
    with pytest.raises(ConfigError, match=nearest):
        override(config, [assignment])


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("degradations.0.options.scale=4", r"expected a group 'degradations' in 'degradations.0.*got \[\{.*as JSON"),
        ("adversarial.weight=1", "expected a group 'adversarial' in 'adversarial.weight', got null"),
    ],
)
def test_a_key_below_what_has_none_is_told_so(config, assignment, said):
    """The accident: configuration has no group 'degradations' (did you mean 'degradations'?)."""
    with pytest.raises(ConfigError, match=said):
        override(config, [assignment])


def test_a_misspelt_key_in_a_file_names_the_nearest(config, tmp_path):
    values = json.loads(config.model_dump_json())
    values["optim"]["warmup"] = 0.1
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"optim\.warmup.*did you mean 'warm_up'"):
        load_config(path, RestorerConfig)


def test_override_sets_nested_values_and_switches_the_length(config):
    changed = override(config, ["net.options.width=32", "run.images=1000", "optim.name=adam"])
    assert changed.net.options == {"scale": 4, "width": 32, "blocks": 7}
    assert changed.run.images == 1000
    assert changed.run.minutes is None
    assert changed.optim.name == "adam"
    assert config.run.minutes == 60


@pytest.mark.parametrize(
    "assignment",
    [
        "optim.plateau=2",
        "optim.name=sgd",
        "optim.learning_rate=Infinity",
        "run.batch=many",
        "run.batch=0",
        "run.device=gpu",
        "data.patch_px=2",
        "data.shrink=[]",
        "data.shrink=[0]",
        "data.workers=-1",
        "losses={}",
        'losses={"l1": -1}',
        'losses={"l1": 0}',
        "run.seed=99999999999999999999",
        "degradations=[]",
        "optim.warm_up=0.9",
        "x",
    ],
)
def test_wrong_values_are_config_errors(config, assignment):
    with pytest.raises(ConfigError) as caught:
        override(config, [assignment])
    assert str(caught.value).count("\n") < 3


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("data.size=big", "configuration key 'data.size': expected auto, one number, or [height,width]"),
        ("data.size=[64]", "expected auto, one number, or [height,width], got [64]"),
        ("data.size=[64,4]", "'data.size': Input should be greater than or equal to 8, or 'auto', got [64, 4]"),
        ("data.size=4", "'data.size': Input should be greater than or equal to 8, or 'auto', got (4, 4)"),
        ("data.channels=9", "'data.channels': Input should be less than or equal to 4, or 'auto', got 9"),
        ('penalties={"r3": 1}', "'penalties.r3': Input should be 'r1', 'r2' or 'wasserstein', got 'r3'"),
        ("run.dtype=fp33", "'auto', 'fp32', 'bf16', 'fp16' or 'fp64', got 'fp33' (did you mean 'fp32'?)"),
    ],
)
def test_a_value_of_several_kinds_is_explained_in_one_sentence(assignment: str, said: str):
    """The accident: 'data.size.tuple[constrained-int, constrained-int]': Input should be a valid tuple, got 64."""
    with pytest.raises(ConfigError) as caught:
        override(presets.rpgan(data="photos", out="run"), [assignment])
    assert said in str(caught.value)
    assert str(caught.value).count("configuration key") == 1


def test_one_number_is_a_square():
    """The accident: --set data.size=64, as everybody writes it, and an error that nobody can read."""
    assert override(presets.rpgan(data="photos", out="run"), ["data.size=64"]).data.size == (64, 64)


def test_both_lengths_are_a_contradiction(config):
    values = config.model_dump()
    values["run"] |= {"images": 10, "minutes": 1}
    with pytest.raises(ConfigError, match="exactly one of images and minutes"):
        build_config(values, RestorerConfig)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'sr-x4'"):
        presets.preset_of(presets.RESTORER_PRESETS, "srx4")


def test_no_torch_at_import(run_python):
    """`imagesmith --help` must not wait for torch."""
    run_python("import imagesmith.configs, imagesmith.presets, sys; assert 'torch' not in sys.modules")


class TestRecipe:
    def test_text_and_file_say_the_same(self, tmp_path):
        text = 'motion_blur:length=[3,15],share_straight=0 + holes:share=[0.2, 0.3], kinds=["boxes","scratches"]'
        parts = recipe(text)
        assert [part.name for part in parts] == ["motion_blur", "holes"]
        assert parts[0].options == {"length": [3, 15], "share_straight": 0}
        assert parts[1].options == {"share": [0.2, 0.3], "kinds": ["boxes", "scratches"]}
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps([part.model_dump() for part in parts]))
        assert recipe(str(path)) == parts
        path.write_text(json.dumps({"degradations": [part.model_dump() for part in parts], "preset": "x"}))
        assert recipe(str(path)) == parts

    @pytest.mark.parametrize("content", ["[]", "{}", "3", '["jpeg"]', "{broken", '[{"nam": "jpeg"}]'])
    def test_a_file_that_holds_no_recipe_is_refused(self, content: str, tmp_path):
        """A recipe read as nothing would measure undamaged pictures, and report a perfect network."""
        (tmp_path / "recipe.json").write_text(content)
        with pytest.raises(ConfigError):
            recipe(str(tmp_path / "recipe.json"))


@pytest.mark.parametrize("table", ["RESTORER_PRESETS", "VIDEO_PRESETS", "CLASSIFIER_PRESETS", "GAN_PRESETS"])
def test_presets_take_paths_and_tell_mistakes(table):
    """The accident: a script with pathlib fails, and `except ImagesmithError` misses what pydantic raises."""
    for preset in getattr(presets, table).values():
        config = preset(data=Path("photos"), out=Path("runs") / "x")
        assert config.data.folder == "photos"
        assert config.run.out == str(Path("runs") / "x")
        with pytest.raises(ConfigError, match=r"'minutes': .* greater than 0, got -1"):
            preset(data="photos", out="run", minutes=-1)


def test_paths_of_every_place_become_text():
    """The accident: the folder of pictures may be a Path, and that of their degraded versions may not."""
    assert build_config({"folder": "a", "degraded": Path("b")}, DataConfig).degraded == "b"
    assert build_config({"folder": "a", "films": Path("c")}, ClipConfig).films == "c"
    values = presets.sr_x4("a", "b").model_dump() | {"start_from": Path("d.safetensors")}
    assert build_config(values, RestorerConfig).start_from == "d.safetensors"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (presets.vsr_x4("a", "b"), "got VideoConfig; imagesmith.train_video takes it"),
        (presets.auto_gan, "got function"),
        ({}, "got dict"),
    ],
)
def test_a_configuration_of_another_kind_names_its_training(config, said):
    """The accident: AttributeError: 'VideoConfig' object has no attribute 'patience', from the middle of a training."""
    with pytest.raises(ConfigError, match=f"expected a RestorerConfig, as presets.sr_x4 makes, {said}$"):
        check_kind(config, RestorerConfig)
    check_kind(presets.denoise("a", "b"), RestorerConfig)


@pytest.mark.parametrize("train", ["train_restorer", "train_video", "train_gan", "train_classifier"])
def test_a_training_of_another_kind_leaves_no_folder(train, tmp_path):
    """The accident: a run folder that holds a configuration of another kind, which the right training then refuses."""
    make = presets.mnistcnn if train == "train_gan" else presets.dcgan
    right = "train_classifier" if train == "train_gan" else "train_gan"
    with pytest.raises(ConfigError, match=f"imagesmith.{right} takes it"):
        getattr(imagesmith, train)(make(data=tmp_path, out=tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []
