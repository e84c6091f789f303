"""`imagesmith demo`: photographs and a film enlarged, images made, a GAN trained; all shown on one page, offline.

The photographs and faces are those that lie inside the scikit-image package itself, so nothing is fetched.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from imagesmith.apps.demo_enlarge import enlarge_photographs
from imagesmith.apps.demo_film import enlarge_film
from imagesmith.apps.demo_generate import shipped_generators, show_generator, vary_photograph
from imagesmith.apps.demo_train import train_on_faces
from imagesmith.apps.report import Chapter, is_report, write_report
from imagesmith.atomic import make_folder
from imagesmith.errors import ImagesmithError, UsageError

SOME_FAILED = 3
"""Exit code where a part of the demo could not be shown."""

Part = Callable[[Path], Chapter]


def run_demo(
    out: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    train: bool = True,
    generators: Sequence[str | Path] | None = None,
) -> int:
    """Write pictures, films and `report.html` into `out`, a line about every part; the exit code, 3 where one failed.

    `generators` are those that are shipped, unless given. UsageError where `out` holds what no demo wrote. After
    Ctrl-C, which raises KeyboardInterrupt, the report shows the parts that were done.
    """
    report = out / "report.html"
    _claim(out, report)
    models = shipped_generators() if generators is None else generators
    parts: dict[str, Part] = {"Enlarging photographs": partial(enlarge_photographs, device=device, dtype=dtype)}
    parts["Enlarging a film"] = partial(enlarge_film, device=device, dtype=dtype)
    parts |= {f"Making images: {model}": partial(show_generator, model=model, device=device) for model in models}
    parts["Variations of a photograph"] = partial(vary_photograph, models=models, device=device)
    if train:
        parts["Training a GAN"] = partial(train_on_faces, device=device)
    chapters: list[Chapter] = []
    try:
        for title, part in parts.items():
            chapters.append(_run(title, part, out))
            write_report(report, chapters)
    except KeyboardInterrupt:
        if chapters:
            print(f"imagesmith: cancelled; {report} shows what was done", file=sys.stderr)
        raise
    print(f"open {report} in a browser to see for yourself", file=sys.stderr)
    return SOME_FAILED if any(chapter.has_failed for chapter in chapters) else 0


def _claim(out: Path, report: Path) -> None:
    """Make the folder, and the page by which the next demo knows it; UsageError where it holds what no demo wrote."""
    make_folder(out)
    if is_report(report):
        return
    if any(not path.name.startswith(".") for path in out.iterdir()):  # file managers leave hidden files
        raise UsageError(f"expected a new folder or one of an earlier demo, got {out}; name another with -o")
    write_report(report, [])


def _run(title: str, part: Part, out: Path) -> Chapter:
    """The part's chapter, told in one line; a failure is one too, and the other parts go on."""
    print(f"{title} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        chapter = part(out)
    except ImagesmithError as error:
        chapter = Chapter(title=title, summary=str(error), has_failed=True)
    chapter = dataclasses.replace(chapter, seconds=time.perf_counter() - start)
    outcome = "not done: " if chapter.has_failed else ""
    print(f"{outcome}{chapter.summary} ({chapter.seconds:.1f} s)", file=sys.stderr, flush=True)
    return chapter
