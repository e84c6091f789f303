"""`imagesmith restore` from the outside: what goes in, what comes out, and what is said."""

import errno
import io
import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

Spawn = Callable[..., subprocess.CompletedProcess]


def size(path: Path | str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


# --- the jobs of the README ---


def test_a_folder_is_mirrored_and_what_is_kept_is_kept(photos: Path, tiny: Path, call) -> None:
    """The accident: subfolders flattened, resolution lost, text files 'failed'."""
    done = call("restore", photos, "-o", "large", "-r", "-n", tiny)
    assert done.code == 0, done.err
    assert size("large/face.png") == (74, 58)
    assert size("large/more/cup.jpg") == (96, 62)
    with Image.open("large/face.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert done.out == ""
    assert "2 done" in done.err
    assert f"with {tiny} (tiny, task sr) on cpu" in done.err, "how it was computed is not said"


def test_a_pipe_carries_the_picture_and_nothing_else(photos: Path, tiny: Path, spawn: Spawn) -> None:
    """The accident: a progress line in the middle of a PNG."""
    done = spawn("restore", "-", "-o", "-", "-n", tiny, input=(photos / "face.png").read_bytes())
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as image:
        image.load()
        assert image.size == (74, 58)


def test_a_zip_and_a_glob_are_unfolded(photos: Path, tiny: Path, call) -> None:
    """The accident: an unquoted glob works in the shell and a quoted one, as documented, does not."""
    with zipfile.ZipFile("scans.zip", "w") as archive:
        archive.write(photos / "face.png", "a/face.png")
    assert call("restore", "scans.zip", "-o", "unzipped", "-n", tiny).code == 0
    assert size("unzipped/a/face.png") == (74, 58)
    assert call("restore", "photos/**/*.jpg", "-n", tiny).code == 0
    assert size("photos/more/cup.tiny-x2.jpg") == (96, 62)


def test_json_is_one_object_a_line_for_good_and_bad(photos: Path, tiny: Path, call) -> None:
    """The accident: a script that reads the lines loses the failures, or meets words for people among them."""
    (photos / "broken.png").write_bytes((photos / "face.png").read_bytes()[:200])
    done = call("restore", photos, "-o", "large", "-r", "-n", tiny, "--json")
    assert done.code == 3
    rows = {row["input"]: row for row in map(json.loads, done.out.splitlines())}
    assert len(rows) == 3
    good, bad = rows["photos/face.png"], rows["photos/broken.png"]
    assert (good["status"], good["output"], good["in_size"], good["out_size"]) == (
        "done",
        "large/face.png",
        [37, 29],
        [74, 58],
    )
    assert good["model"] == str(tiny), "a script cannot tell which model it named"
    assert good["seconds"] > 0
    assert bad["status"] == "failed"
    assert "broken.png" in bad["error"]
    assert size("large/more/cup.jpg") == (96, 62), "one bad file took others with it"


def test_resume_skips_what_is_done_and_redoes_what_changed(photos: Path, tiny: Path, call) -> None:
    """The accident: the second night of a long job starts from the beginning, or keeps yesterday's result of a new file."""

    def statuses() -> list[str]:
        done = call("restore", photos, "-o", "large", "-r", "-n", tiny, "--resume", "--json")
        return [json.loads(line)["status"] for line in done.out.splitlines()]

    assert statuses() == ["done", "done"]
    assert statuses() == ["skipped", "skipped"]
    with Image.open(photos / "face.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "face.png")
    assert sorted(statuses()) == ["done", "skipped"]


def test_dry_run_writes_nothing_and_says_what_it_would(photos: Path, tiny: Path, call) -> None:
    """The accident: a rehearsal that leaves empty folders."""
    before = sorted(Path().rglob("*"))
    done = call("restore", photos, "-o", "large", "-r", "-n", tiny, "--dry-run")
    assert done.code == 0
    assert "photos/face.png -> large/face.png (37 x 29 -> 74 x 58, planned)" in done.out
    assert sorted(Path().rglob("*")) == before


def test_flags_reach_the_result(photos: Path, tiny: Path, call) -> None:
    """The accident: a flag that is parsed, shown in the help, and passed to nobody."""
    args = ("restore", photos / "face.png", "-n", tiny, "--dtype", "fp32", "-q")
    assert call(*args, "-f", "webp", "--suffix", "_big").code == 0
    assert size("photos/face_big.webp") == (74, 58)
    for name, extra in {"plain": (), "tiled": ("-t", "8"), "eight": ("--self-ensemble",)}.items():
        done = call(*args, *extra, "-o", f"{name}.png")
        assert (done.code, done.err) == (0, ""), "--quiet speaks"
    plain, tiled, eight = (Image.open(f"{name}.png").tobytes() for name in ("plain", "tiled", "eight"))
    assert max(abs(a - b) for a, b in zip(plain, tiled, strict=True)) <= 1
    assert plain != eight


# --- what cannot be ---


def test_a_missing_input_a_wrong_scale_and_a_misspelt_model_are_usage(photos: Path, tiny: Path, call) -> None:
    """The accident: a typo that ends in a traceback, or in exit code 0."""
    call("restore", "phtos", "-n", tiny).was_refused(2, "phtos")
    call("restore", photos, "-n", tiny, "-s", "3").was_refused(2, "enlarges by 2")
    call("restore", photos, "-s", "5").was_refused(2, "--scale")
    call("restore", photos, "-n", "sr-x44").was_refused(2, "sr-x44")
    call("restore", photos, "-n", tiny, "--device", "cuda:9").was_refused(2, "--device")
    call("restore", "-", "-n", tiny, "--json").was_refused(2, "JSON")


def test_nothing_usable_is_code_4(photos: Path, tiny: Path, call) -> None:
    """The accident: a nightly job over the wrong folder that has succeeded for months."""
    Path("empty").mkdir()
    call("restore", "empty", "-n", tiny).was_refused(4, "empty")
    Path("words.png").write_text("not a picture")
    call("restore", "words.png", "-n", tiny).was_refused(4, "words.png")


def test_what_is_not_restored_is_told(photos: Path, tiny: Path, call) -> None:
    """The accident: a phone's folder of .heic 'done' with exit code 0, and of all but one picture not a word."""
    (photos / "img.heic").write_bytes(b"heic")
    (photos / "notes.txt").write_text("x")
    done, listed = call("restore", photos, "-n", tiny), call("restore", photos, "-n", tiny, "-y", "--json")
    for each in (done, listed):
        assert each.code == 3
        assert "passed over: 1 .txt" in each.err
    assert "img.heic: expected JPEG" in done.err
    assert "img.heic: expected JPEG" in listed.out


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read every folder")
def test_an_unreadable_folder_is_told(photos: Path, tiny: Path, call) -> None:
    """The accident: 'no pictures found' where the truth is 'no permission'."""
    photos.chmod(0)
    try:
        call("restore", photos, "-n", tiny).was_refused(4, "photos", "Permission")
    finally:
        photos.chmod(0o755)


def test_an_existing_result_is_kept_without_y(photos: Path, tiny: Path, call) -> None:
    """The accident: a year of retouching overwritten by one command."""
    Path("large.png").write_bytes(b"precious")
    call("restore", photos / "face.png", "-o", "large.png", "-n", tiny).was_refused(3, "large.png exists", "-y")
    assert Path("large.png").read_bytes() == b"precious"
    assert call("restore", photos / "face.png", "-o", "large.png", "-n", tiny, "-y").code == 0
    assert size("large.png") == (74, 58)


def test_a_full_disk_leaves_no_half_file(photos: Path, tiny: Path, spawn: Spawn) -> None:
    """The accident: a cut PNG under the final name, and no word about it."""
    if not hasattr(resource, "RLIMIT_FSIZE"):
        pytest.skip("needs a limit on file sizes")

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    done = spawn("restore", photos / "face.png", "-o", "large.png", "-n", tiny, preexec_fn=little_room)
    said = done.stderr.decode()
    assert done.returncode == 3, said
    assert "large.png cannot be written" in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) <= 3
    assert not [path for path in Path().iterdir() if path.name != "photos"], "something was left behind"


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "sha256"),
        (lambda _: b"\x89PNG\r\n\x1a\n", "PNG"),
    ],
    ids=["truncated", "one flipped bit", "another kind"],
)
def test_a_bad_model_file_is_told_before_anything_is_done(photos, tiny, call, damage, word) -> None:
    """The accident: weights damaged in a download that still load, and pictures that are subtly wrong."""
    Path("bad.safetensors").write_bytes(damage(tiny.read_bytes()))
    call("restore", photos, "-o", "large", "-n", "bad.safetensors").was_refused(2, "bad.safetensors", word)
    assert not Path("large").exists()


def test_a_bug_is_told_as_one_and_debug_shows_where(photos, tiny, call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident: users meet tracebacks, or developers never do."""
    monkeypatch.setattr("imagesmith.infer.restore.Restorer.load", lambda *_, **__: 1 / 0)
    call("restore", photos, "-n", tiny).was_refused(1, "ZeroDivisionError", "--debug")
    monkeypatch.setattr(sys, "argv", ["imagesmith", "restore", str(photos), "--debug"])
    from imagesmith.apps.cli import main

    with pytest.raises(ZeroDivisionError):
        main()


def test_ctrl_c_leaves_with_130_and_resume_goes_on(photos: Path, tiny: Path, call, monkeypatch) -> None:
    """The accident: a cancelled job reports success, and its second half is never done."""
    import signal

    from imagesmith.infer.restore import Restorer

    strips = Restorer.strips

    def interrupted(self, frame, **options):
        for strip in strips(self, frame, **options):
            os.kill(os.getpid(), signal.SIGINT)
            yield strip

    args = ("restore", photos, "-o", "large", "-r", "-n", tiny, "--resume")
    with monkeypatch.context() as patch:
        patch.setattr(Restorer, "strips", interrupted)
        done = call(*args)
    assert done.code == 130
    assert "--resume goes on" in done.err
    assert call(*args).code == 0
    assert size("large/more/cup.jpg") == (96, 62)


def test_the_task_is_checked_against_the_model(photos: Path, tiny: Path, call) -> None:
    """The accident: a flag that is accepted and ignored."""
    assert call("restore", photos / "face.png", "-n", tiny, "--task", "sr").code == 0
    call("restore", photos / "face.png", "-n", tiny, "--task", "denoise").was_refused(2, "task sr", "task denoise")


@pytest.mark.parametrize(
    "line",
    [
        "restore photos/face.png -q -y -n {tiny} --json | true",
        pytest.param("restore photos/face.png -q -y -n {tiny} -o - > /dev/full", marks=pytest.mark.slow),
        "models list --json | true",
        "models list --json > /dev/full",
        "models list > /dev/full",
        "--version > /dev/full",
    ],
)
def test_a_closed_pipe_and_a_full_one_are_told(line: str, photos: Path, tiny: Path) -> None:
    """The accident: `| head` ends without a word, or in 'a bug', an ignored exception and exit code 120."""
    command = f"{sys.executable} -m imagesmith {line.format(tiny=tiny)}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    error = done.stderr.decode()
    assert done.returncode == 3, error
    assert "cannot be written" in error
    assert "Traceback" not in error
    assert "a bug" not in error
    assert "ignored" not in error


def test_a_full_disk_elsewhere_is_not_blamed_on_standard_output(monkeypatch: pytest.MonkeyPatch, call) -> None:
    """The accident: TMPDIR is full, standard output is said to be, and whoever makes room there gains nothing."""

    def fails(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as writing has it: without a file's name

    monkeypatch.setattr("imagesmith.apps.cli.app", fails)
    done = call("models", "list")
    done.was_refused(3, "No space left on device", "--debug shows where")
    assert "standard output" not in done.err
    assert "a bug" not in done.err


def test_standard_output_may_be_closed_from_the_start() -> None:
    """The accident: a service without standard output is told of a bug after all its work is done."""
    command = f"{sys.executable} -m imagesmith models list >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1), done.stderr


@pytest.mark.parametrize("closed", [pytest.param("2>&-", marks=pytest.mark.slow), "<&- >&- 2>&-"])
def test_a_folder_is_restored_without_standard_streams(closed: str, photos: Path, tiny: Path, tmp_path: Path) -> None:
    """The accident: 'a bug' before the first picture, and workers that die, as a service closes what it does not read."""
    (photos / "second.png").write_bytes((photos / "face.png").read_bytes())
    pictures = f"{photos / 'face.png'} {photos / 'second.png'}"
    command = (
        f"{sys.executable} -m imagesmith restore {pictures} -n {tiny} -o {tmp_path}/out --workers 2 --json {closed}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"face.png", "second.png"}


def test_a_name_that_is_no_text_is_reported(photos: Path, tiny: Path, call) -> None:
    """The accident: an old disk with latin-1 names, and a rehearsal that ends in an encoding error."""
    name = os.fsdecode(b"photos/caf\xe9.png")
    Path(name).write_bytes((photos / "face.png").read_bytes())
    done = call("restore", name, "--dry-run", "-q", "-n", tiny)
    assert done.code == 0, done.err
    assert r"caf\udce9.tiny-x2.png" in done.out


def test_without_task_or_model_each_picture_is_looked_at(photos: Path, call) -> None:
    """The accident: the rehearsal says another chain than is run, or nothing that a script can read."""
    done = call("restore", photos / "face.png", "--dry-run", "--json", "-q")
    assert done.code == 0, done.err
    row = json.loads(done.out)
    assert row["decision"]["findings"]["width"] == 37
    assert [link["model"] for link in row["decision"]["chain"]][-1:] == ["sr-x4"]
    assert row["out_size"] == [148, 116]
    call("restore", photos / "face.png", "--consistency").was_refused(2, "--task")
    call("restore", photos / "face.png", "--strength", "0.5").was_refused(2, "--task")


def test_auto_that_is_asked_for_looks_at_what_it_enlarges(photos: Path, call) -> None:
    """The accident: `--task auto -s 2` enlarges the noise with the picture, where Python takes it away first."""
    noise = np.random.default_rng(0).normal(0, 20, (100, 128, 3))
    Image.fromarray((data.astronaut()[:100, :128] + noise).clip(0, 255).astype(np.uint8)).save("noisy.png")

    def planned(*options: str) -> tuple[str, list[int]]:
        done = call("restore", "noisy.png", "-s", "2", *options, "--dry-run", "--json", "-q")
        row = json.loads(done.out)
        return row["model"], row["out_size"]

    assert planned("--task", "auto") in (("denoise+sr-x2", [256, 200]), ("photo-x2", [256, 200]))
    assert planned() == ("sr-x2", [256, 200])
