"""Write docs/numbers.md from what is in results/, beside what was asked and what others did.

python benchmarks/numbers_page.py
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from commands_page import commands_section
from pages import machine, result_of, table
from published import CHECK, PUBLISHED, Published
from speed_page import gpu_section, networks_section, speed_section
from timing import HERE, RESULTS

from imagesmith.evaluate import PROTOCOL
from imagesmith.zoo.cards import CARDS

DOCS = HERE.parent / "docs"
TEST_SETS = ("set5", "set14")
SCALES = (2, 3, 4)
HEADINGS = ("network", "parameters", "trained on", "Set5", "Set14", "source")

Scores = dict[str, dict[str, float]]
"""Means by test set or protocol and metric, as a card's `protocol` has them."""


def write_numbers(docs: Path = DOCS, results: Path = RESULTS) -> None:
    """Write docs/numbers.md from the JSON files that are there."""
    text = [
        "# Numbers",
        "",
        "Written by the programs in `benchmarks/` from what they measured; do not edit.",
    ]
    if scores := result_of(results / "scores.json"):
        text += _super_resolution(scores["results"])
    for name, section in SECTIONS.items():
        if found := result_of(results / f"{name}.json"):
            text += section(found)
    text += gpu_section(results)
    text += commands_section(results)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "numbers.md").write_text("\n".join(text) + "\n")


def in_words(scores: dict[str, float]) -> str:
    """The means of one test set in a cell."""
    if {"psnr_y", "ssim_y"} == scores.keys():
        return _pair(scores["psnr_y"], scores["ssim_y"])
    return ", ".join(f"{metric} {value:.4g}" for metric, value in scores.items())


def _pair(psnr: float, ssim: float | None) -> str:
    return f"{psnr:.2f}" + ("" if ssim is None else f" / {ssim:.4f}")


# --- super-resolution ---


def _super_resolution(measured: dict[str, Scores]) -> list[str]:
    """For every scale a table of what was measured here and what others published, best Set5 last."""
    text = [
        "",
        f"PSNR (dB) / SSIM of the luma, `psnr_y` and `ssim_y`: {PROTOCOL.format(crop='`scale`')}. BT.601 studio-range "
        "luma; SSIM with an 11x11 Gaussian window of sigma 1.5 where it lies inside the image. Inputs are the stored "
        "low-resolution images of the test sets, which this package's bicubic reproduces bit for bit.",
        "",
        "Rows in **bold** were measured here, on the CPU, by `evaluate_restorer`; the others are quoted. "
        f"{CHECK.capitalize()} means that nobody here has compared the figures with the paper. Networks trained on "
        "DIV2K or DF2K have seen many times more and larger photographs than ours.",
    ]
    for scale in SCALES:
        text += ["", f"## x{scale}", "", *table(_rows(scale, measured), HEADINGS)]
    return text


def _rows(scale: int, measured: dict[str, Scores]) -> list[tuple[str, ...]]:
    ours = [("**bicubic**", "", "", measured[f"bicubic x{scale}"])]
    for name, card in CARDS.items():
        for dtype in ("fp32", "bf16"):
            scores = measured.get(f"{name} {dtype}")
            if scores is not None and card.scale == scale:
                ours.append((f"**{name}**, {dtype}", f"{card.params:,}", card.train_data, scores))
    rows = [
        (scores["set5"]["psnr_y"], (name, params, data, *(in_words(scores[s]) for s in TEST_SETS), "measured here"))
        for name, params, data, scores in ours
    ]
    rows += [(entry.set5[0], _quoted(entry)) for entry in PUBLISHED if entry.scale == scale]
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def _quoted(entry: Published) -> tuple[str, ...]:
    scores = (_pair(*pair) if pair else "" for pair in (entry.set5, entry.set14))
    return (entry.name, entry.params, entry.train_data, *scores, entry.source)


# --- other damages ---


def _restoration(result: dict[str, Any]) -> list[str]:
    """What restoration.py measured, a row for each figure: asked, measured, published."""
    text = [
        "",
        "## Noise, JPEG, blur, holes",
        "",
        "Means over the images, on the CPU in float32. Noise is given to the networks unclipped, as the papers do, "
        "unless the row says otherwise; all results are rounded to 8 bits, and nothing is cropped. LIVE1's luma is "
        "BT.601 studio-range, stored as gray JPEG files; the unrestored files then score what was published. "
        "Published scores are quoted; nobody here has compared them with the papers. Seconds are those of the "
        "arithmetic that the machine named chooses by itself, which has bf16 where no instruction set is named.",
    ]
    rows = [
        (
            f"{row['what']}: {machine(row['environment'])}" if row["metric"] == "seconds" else row["what"],
            row["network"],
            row["metric"],
            _asked(row["asked"], row["most"]),
            f"**{_number(row['measured'])}**",
            row["beside"],
            row["published"],
        )
        for row in result["rows"]
    ]
    headings = ("what", "network", "metric", "asked", "measured", "measured beside it", "published")
    return [*text, "", *table(rows, headings)]


def _asked(value: float | None, most: bool) -> str:
    return "" if value is None else f"at {'most' if most else 'least'} {_number(value)}"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


# --- which damage it is ---


def _task_auto(result: dict[str, Any]) -> list[str]:
    """What task_auto.py counted, a row for each kind of damage."""
    counts = [
        (kind, *(f"{found[name]}" for name in ("cases", "right", "exact"))) for kind, found in result["kinds"].items()
    ]
    return [
        "",
        "## `--task auto`",
        "",
        f"It named the right kind of damage in {result['right']:.1%} of {result['cases']} cases made of "
        f"{result['photos']}{_shrunk(result['shrink'])}: any enlargement counts for a picture made small, any two "
        f"networks of denoise, jpeg and deblur for a mixture. In {result['exact']:.1%} its networks were exactly those "
        "for the damages, the factor of enlargement included.",
        "",
        *table(counts, ("what was done", "cases", "right kind", "exact networks")),
    ]


def _shrunk(factor: int) -> str:
    return f", shrunk by {factor}" if factor > 1 else ""


# --- films ---

ASKED_GAINS = {"bicubic": 1.0, "vsr-x4, state off": 0.25}
"""By how many dB vsr-x4 has to beat these on BI, as the mean of the clips."""
SCORES = ("psnr_rgb", "psnr_y", "ssim_y", "warping_error", "tof", "flicker")
PUBLISHED_VID4 = (
    "Published for the four clips of Vid4, of which calendar is the hardest, BI: bicubic 23.78 / .6347, SwinIR (one "
    "frame) 25.68 / .7491, NanoVSR-644k 26.05 / .7761, SSL 27.15 / .8208, BasicVSR 27.24 / .8251, BasicVSR++ 27.79 / "
    ".8400; BD: BasicVSR 27.96 / .8553. Quoted; nobody here has compared them with the papers. Only 31 frames of "
    "calendar are at hand, so nothing here is to be put beside them but the distance from bicubic."
)


def _video(result: dict[str, Any]) -> list[str]:
    """What video.py measured, as far as it has: quality by clip and as a mean, then whole commands."""
    text = ["", "## Films", ""]
    if rows := result.get("quality", {}).get("rows", []):
        text += [
            f"First {rows[0]['frames_asked']} frames of each clip (all, where it has fewer), 8 bits, nothing cropped, "
            "the bare network on the CPU in float32 unless smoothed with `--temporal`. BI is MATLAB's bicubic to 1/4; "
            "BD a Gaussian of sigma 1.6 (12x12), every 4th pixel at 2:4:end-2. Noise is given unclipped, but to "
            "smoothed networks at 8 bits. `warping_error` (x 1000), `tof` (pixels) and `flicker` (grey levels) are by "
            "this package's own flow: lower is better, and a blurred clip is steady, too. State off is the same "
            "network that forgets every frame.",
            "",
            *table(_quality_rows(rows), ("degradation", "clip", "network", *SCORES)),
            "",
            *_verdicts(rows),
            "",
            PUBLISHED_VID4,
        ]
    return text + _commands(result)


def _means(rows: list[dict[str, Any]], degrade: str) -> dict[str, dict[str, float]]:
    """The mean over the clips by what was measured, where all clips have been."""
    chosen = [row for row in rows if row["degrade"] == degrade]
    clips, names = ({row[key] for row in chosen} for key in ("clip", "subject"))
    by_name = {name: [row["scores"] for row in chosen if row["subject"] == name] for name in sorted(names)}
    return {
        name: {score: sum(each[score] for each in scores) / len(scores) for score in scores[0]}
        for name, scores in by_name.items()
        if len(scores) == len(clips)
    }


def _quality_rows(rows: list[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    """A line for each measurement, and the means below each degradation."""
    for degrade in dict.fromkeys(row["degrade"] for row in rows):
        chosen, means = [row for row in rows if row["degrade"] == degrade], _means(rows, degrade)
        lines = [(row["clip"], row["subject"], row["scores"]) for row in chosen]
        lines += [
            ("mean", f"**{name}**", means[name]) for name in dict.fromkeys(n for _, n, _ in lines) if name in means
        ]
        for clip, name, scores in lines:
            yield _degradation(degrade), clip.removesuffix(".mp4"), name, *(_score(scores, score) for score in SCORES)


def _degradation(degrade: str) -> str:
    """`bi` as BI; a recipe of noise as its sigma."""
    return f"sigma {degrade.split('[')[1].split(',', maxsplit=1)[0]}" if "noise" in degrade else degrade.upper()


def _score(scores: dict[str, float], name: str) -> str:
    if name not in scores:
        return ""
    return f"{scores[name]:.2f}" if name.startswith("psnr") else f"{scores[name]:.4f}"


def _verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """What was asked of vsr-x4, and whether it is so."""
    means, lines = _means(rows, "bi"), []
    for other, asked in ASKED_GAINS.items() if "vsr-x4" in means else ():
        if other in means:
            gain = means["vsr-x4"]["psnr_y"] - means[other]["psnr_y"]
            lines.append(f"* BI, mean psnr_y of vsr-x4 over {other}: **{gain:+.2f} dB**, asked at least {asked:.2f}.")
    for score in ("warping_error", "flicker"):
        by_clip = {(row["clip"], row["subject"]): row["scores"][score] for row in rows if row["degrade"] == "bi"}
        clips = [clip for clip, name in by_clip if name == "vsr-x4" and (clip, "sr-x4") in by_clip]
        lower = sum(by_clip[clip, "vsr-x4"] < by_clip[clip, "sr-x4"] for clip in clips)
        lines += (
            [f"* BI, {score} below that of sr-x4 frame by frame: on {lower} of {len(clips)} clips."] if clips else []
        )
    return lines


def _commands(result: dict[str, Any]) -> list[str]:
    """One line for each figure of whole commands."""
    lines = []
    if found := result.get("speed"):
        fps = ", ".join(f"{name} {value}" for name, value in found["fps"].items())
        lines.append(
            f"* Speed ({found['what']}): frames per second {fps}; the command takes {found['ratio_without_start']} "
            f"times its slowest part, asked at most 1.25 ({found['ratio']} with start-up), and {found['peak_gb']} GB "
            "at most."
        )
    if found := result.get("memory"):
        lines.append(
            f"* Memory ({found['what']}): the last fifth of the run is {found['drift_percent']:+.2f} % over the "
            f"second, asked under 5 %; {found['peak_gb']} GB at most; {found['most_disk_bytes'] / 1e6:.1f} MB on the "
            f"disk at most, for a result of {found['output_bytes'] / 1e6:.1f} MB."
        )
    if found := result.get("timestamps"):
        sound = "bit-identical" if found["audio_packets_equal"] else "NOT the same"
        lines.append(
            f"* Timestamps ({found['what']}): {found['frames_out']} of {found['frames_in']} frames, off by "
            f"{found['largest_error_ms']} ms at most; {found['audio_packets']} audio packets {sound}; sound moved by "
            f"{found['sound_offset_change_ms']} ms."
        )
    if found := result.get("kill"):
        lines.append(
            f"* Kill ({found['what']}): SIGKILL at {found['moments']} random moments, {found['killed']} of them before "
            f"the end; after --resume {found['equal']} of {found['moments']} have the same frames, bit by bit."
        )
    return ["", *lines] if lines else []


SECTIONS = {
    "restoration": _restoration,
    "task_auto": _task_auto,
    "video": _video,
    "speed": speed_section,
    "networks": networks_section,
}
"""What writes the section of a file in results/, in the order of the page."""


if __name__ == "__main__":
    write_numbers()
