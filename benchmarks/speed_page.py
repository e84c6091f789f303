"""The section of docs/numbers.md that speed.py measured, and what was measured on a GPU."""

import json
from pathlib import Path
from typing import Any

from pages import by_machine, machine, precision, result_of, table

from imagesmith.nets import RESTORERS, VIDEO_RESTORERS
from imagesmith.zoo.cards import CARDS

PEERS = {
    "plain": "plain script",
    "tiles": "tile loop",
    "compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
"""By way of restoring, as headings."""
ASKED = {"cpu": (3.0, 70.0), "cuda": (2.0, 60.0)}
"""By kind of device, of sr-x4 and denoise: times the tile loop from file to file, and percent of the limit."""
ASKED_APART = 1
"""Grey levels from the plain script, at most."""
ASKED_OVER_PLAIN = 0.97
ZOO = [name for name, card in CARDS.items() if card.net in RESTORERS or card.net in VIDEO_RESTORERS]
"""All shipped networks that restore, films as well."""
ASKED_DCGAN = {"cpu": 1.5, "cuda": 4.0}
ASKED_WAITING = 3.0


def speed_section(result: dict[str, Any]) -> list[str]:
    """What speed.py measured, as far as it has."""
    text = ["", "## Speed"]
    if rows := result.get("pictures", {}).get("rows"):
        text += ["", _METHOD]
        for where, group in by_machine(rows).items():
            text += _pictures(where, group)
    for training in result.get("training", {}).get("rows", []):
        text += _training(training)
    return text


_METHOD = (
    "Median milliseconds of the whole path of `Restorer` from file to file (PNG) and from pixels to pixels; beside "
    "each, how many times as long others take with the same weights in the same turns: the plain float32 script, a "
    "loop over fixed tiles with a margin of 10 pixels (half precision on GPUs), and the runtimes that were run. "
    "**Bold**: faster than ours. In brackets the largest difference from the plain script in grey levels "
    "(`sr-x4-gan` also keeps the colours of its picture, which the script does not). Percent of "
    "limit: of the time that the network's multiplications take at the rate of its own fastest layer (or its bytes at "
    "the rate of memory, if that is more), halos not counted; above 100 where our own 3x3 "
    "convolutions (docs/decisions/003) take fewer multiplications. MiB: peak of the process, of the plain script's in "
    "brackets."
)


def _pictures(where: str, rows: list[dict[str, Any]]) -> list[str]:
    """What was measured on one machine; who was run nowhere on it has no column."""
    peers = [way for way in PEERS if any(way in row["times_as_fast"]["file"] for row in rows)]
    titles = [PEERS[way] for way in peers]
    headings = ("network, picture", "file to file", *titles, "without files", *titles, "% of limit", "MiB")
    where = ", ".join([where, *dict.fromkeys(precision(row["ways"]["ours"]["runtime"]) for row in rows)])
    return [
        "",
        f"### {where}",
        "",
        *table((_row(row, peers) for row in rows), headings),
        "",
        *_verdicts(rows, where),
    ]


def _verdicts(rows: list[dict[str, Any]], where: str) -> list[str]:
    """What was asked of sr-x4 and denoise, and what is so; `where` names the processor."""
    lines = []
    for row in rows:
        times, percent = row["times_as_fast"]["file"].get("tiles"), row.get("percent_of_roofline")
        if row["model"] in ("sr-x4", "denoise") and times is not None and percent is not None:
            asked_times, asked_percent = ASKED[row["device"].partition(":")[0]]
            lines.append(
                f"* {row['model']}, {row['side']}x{row['side']}, {row['device']}: **{times:.2f}** times as fast as the "
                f"tile loop, asked {asked_times:g}; **{percent:.0f} %** of the limit, asked {asked_percent:g}; "
                f"{_apart(row)}."
            )
    beside_plain = [row for row in rows if "plain" in row["times_as_fast"]["pixels"]]
    if not beside_plain:
        return lines
    worst = min(beside_plain, key=_over_plain)
    zoo = [name for name, card in CARDS.items() if card.net in RESTORERS]
    missing = [name for name in zoo if name not in {row["model"] for row in beside_plain}]
    left_out = f"; not measured: {', '.join(missing)}" if missing else ""
    return [
        *lines,
        f"* Least over the plain script without files: **{_over_plain(worst):.2f}** ({worst['model']}, "
        f"{worst['side']}x{worst['side']}, {worst['device']}), asked {ASKED_OVER_PLAIN}, over "
        f"{len(zoo) - len(missing)} of the zoo's {len(zoo)} networks for pictures, on {where}{left_out}.",
    ]


def _apart(row: dict[str, Any]) -> str:
    """How far the result is from the plain script's."""
    apart = row["ways"]["ours"].get("grey_levels_from_plain")
    if apart is None:
        return "not compared with the plain script"
    return (
        f"at most **{apart['max']}** grey level{'s' * (apart['max'] != 1)} from the plain script, asked {ASKED_APART}"
    )


def _over_plain(row: dict[str, Any]) -> float:
    return row["times_as_fast"]["pixels"]["plain"]


def _row(row: dict[str, Any], peers: list[str]) -> tuple[str, ...]:
    ways, ours = row["ways"], row["ways"]["ours"]
    apart = ours.get("grey_levels_from_plain", {}).get("max")
    cells = [f"{row['model']}, {row['side']}x{row['side']}, {ours['runtime'].split(':')[0]}"]
    for part in ("file", "pixels"):
        difference = f" [{apart}]" if part == "file" and apart is not None else ""
        cells += [f"{1e3 * ours[part]['median']:.0f}{difference}"]
        cells += [_times(row, part, way) for way in peers]
    limit = f"{row['percent_of_roofline']:.0f}" if "percent_of_roofline" in row else ""
    plain = f" ({ways['plain']['peak_mib']:.0f})" if "plain" in ways else ""
    return (*cells, limit, f"{ours['peak_mib']:.0f}{plain}")


def _times(row: dict[str, Any], part: str, way: str) -> str:
    """How many times as long as ours it takes, or why that is not known."""
    times = row["times_as_fast"][part].get(way)
    if times is None:
        return "not installed" if "missing" in row["ways"].get(way, {}) else "not run"
    apart = row["ways"][way].get("grey_levels_from_plain", {}).get("max")
    text = f"**{times:.2f}**" if times < 1 else f"{times:.2f}"
    return f"{text} [{apart}]" if part == "file" and apart is not None else text


def _training(part: dict[str, Any]) -> list[str]:
    dcgan = part["dcgan"]
    seconds, peak = dcgan["seconds"], dcgan["peak_mib"]
    rows = [
        ("DCGAN 64x64", "64", f"{1e3 * seconds['ours']['median']:.0f}", "", f"{peak['ours']}", _arithmetic(dcgan)),
        ("PyTorch's example", "64", f"{1e3 * seconds['peer']['median']:.0f}", "", f"{peak['peer']}", "fp32"),
    ]
    for name, title in (("restorer", "sr-x4"), ("rpgan", "rpgan 64x64")):
        found = part[name]
        median, waiting = 1e3 * found["step_seconds"]["median"], found["percent_waiting_for_data"]
        rows.append(
            (title, f"{found['batch']}", f"{median:.0f}", f"{waiting}", f"{found['peak_mib']:.0f}", _arithmetic(found))
        )
    headings = ("training", "batch", "ms a step", "% waiting for data", "peak MiB", "arithmetic")
    asked = ASKED_DCGAN["cpu" if dcgan["device"] == "cpu" else "cuda"]
    verdict = (
        f"Training on {dcgan['device']} ({machine(part['environment'])}): DCGAN at **{dcgan['speedup']:.2f}** times "
        f"the rate of the example, asked {asked:g}; of waiting for data is asked that it stays under "
        f"{ASKED_WAITING:g} %."
    )
    return ["", verdict, "", *table(rows, headings)]


def networks_section(result: dict[str, Any]) -> list[str]:
    """What networks.py measured."""
    text = [
        "",
        "## The networks alone",
        "",
        "How many times as fast they are as the probe has them run, in turns with themselves in plain eager float32; "
        f"asked is at least {ASKED_OVER_PLAIN}. Films frame by frame.",
        "",
    ]
    for where, group in by_machine(result["rows"]).items():
        rows = sorted(group, key=lambda row: row["times_as_fast"])
        times = ", ".join(f"{row['model']} {row['times_as_fast']:.2f}" for row in rows[1:])
        missing = [name for name in ZOO if name not in {row["model"] for row in rows}]
        left_out = f"; not measured: {', '.join(missing)}" if missing else ""
        text.append(
            f"* {where}, {precision(rows[0]['runtime'])}, {rows[0]['side']}x{rows[0]['side']}: least "
            f"**{rows[0]['times_as_fast']:.2f}** ({rows[0]['model']}); {times}{left_out}."
        )
    return text


def gpu_section(results: Path) -> list[str]:
    """What gpu_speed.py, inference.py and dcgan_step.py measured on a GPU, as far as they have."""
    pictures = [json.loads(path.read_text()) for path in sorted(results.glob("gpu_speed_*.json"))]
    lines = [
        f"* {each['what']}: **{1e3 * each['seconds']['ours']['median']:.1f} ms**, "
        f"**{each['speedup']['ours']:.2f}** times as fast as the tile loop in fp16, asked {ASKED['cuda'][0]:g}."
        for each in pictures
    ]
    network, dcgan = (result_of(results / f"{name}_cuda.json") for name in ("inference", "dcgan_step"))
    if network:
        found = network["bf16"]
        lines.append(
            f"* {network['what']}: {1e3 * found['seconds'][found['best']['ours']]['median']:.1f} ms in bf16, "
            f"**{found['percent_of_convolution_limit']:.0f} %** of the rate of its bare convolutions, asked "
            f"{ASKED['cuda'][1]:g}; RLFN's layer shapes take {found['speedup_over_rlfn']:.2f} times as long."
        )
    if dcgan:
        lines.append(
            f"* {dcgan['what']}: {1e3 * dcgan['seconds']['ours']['median']:.1f} ms, **{dcgan['speedup']:.2f}** times "
            f"the rate of PyTorch's example, asked {ASKED_DCGAN['cuda']:g}."
        )
    if not lines:
        return []
    device = (pictures or [network or dcgan])[0]["device"]
    return ["", "## On a GPU", "", f"On one {device}, which nothing else used; medians.", "", *lines]


def _arithmetic(found: dict[str, Any]) -> str:
    return found["arithmetic"].split(":")[0]
