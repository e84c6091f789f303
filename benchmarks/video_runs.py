"""Whole commands on films: how fast, in how much memory, with what timestamps, and what a kill costs."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from memory import COMMAND, peak
from timing import spread, take_turns
from video_films import draw_film, frame_digests, frame_times, moving_frames, sound_packets

from imagesmith.data.video import Encoding, open_video, read_info, segment_writer
from imagesmith.infer.video.stream import VideoRestorer

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))  # on a busy machine two that wait for each other never end
_ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
_ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled, and so is a checkout run before
SMALL = (320, 180)
"""Width and height of the film whose speed is measured."""


def speed(model: str, folder: Path, frames: int = 250, rounds: int = 3) -> dict[str, Any]:
    """Frames per second of decoding, the network, encoding, each by itself, and of the whole command; its peak memory.

    Of ten seconds of film: a start of two seconds weighs in it as in what people restore, and more in shorter ones.
    The command's seconds for a film of two frames are its start; what is left is compared with the slowest part.
    """
    torch.set_num_threads(THREADS)
    film, short = (draw_film(folder / f"{count}.mp4", count, SMALL, sound=True) for count in (frames, 2))
    restorer = VideoRestorer.load(model, device="cpu")
    with open_video(film) as reader:
        decoded = [frame.pixels for frame in reader]
    info, size = read_info(film), (SMALL[0] * restorer.scale, SMALL[1] * restorer.scale)
    large = [torch.from_numpy(pixels.copy()) for pixels in moving_frames(frames, *size)]

    def encode() -> None:
        with segment_writer(folder / "alone.part", info, Encoding(), size=size) as write:
            for number, pixels in enumerate(large):
                write(pixels, info.start + number * round(1 / (25 * info.time_base)))

    parts: dict[str, Callable[[], object]] = {
        "decode": lambda: _exhaust(open_video(film)),
        "network": lambda: [None for _ in restorer.frames(iter(decoded))],
        "encode": encode,
        "command": lambda: _restore(film, folder / "out.mp4", model),
        "start": lambda: _restore(short, folder / "short.mp4", model),
    }
    seconds = {name: spread(each) for name, each in take_turns(parts, rounds=rounds, warm_up=1).items()}
    alone = {name: frames / seconds[name]["median"] for name in ("decode", "network", "encode")}
    whole = seconds["command"]["median"]
    running = max(whole - seconds["start"]["median"], 1e-9)
    (folder / "out.mp4").unlink()
    resident, _ = peak(_command(film, folder / "out.mp4", model))
    slowest = min(alone.values())
    return {
        "what": f"{SMALL[0]}x{SMALL[1]}, {frames} frames, x{restorer.scale}, {Path(model).name}, {restorer.runtime}",
        "fps": {name: round(value, 2) for name, value in alone.items()} | {"command": round(frames / whole, 2)},
        "fps_without_start": round((frames - 2) / running, 2),
        "ratio": round(slowest * whole / frames, 3),
        "ratio_without_start": round(slowest * running / (frames - 2), 3),
        "peak_gb": round(resident / 1e9, 3),
        "seconds": seconds,
    }


def memory(model: str, folder: Path, frames: int = 10_000) -> dict[str, Any]:
    """Resident memory of the command, every second, on a long small film; how much the last fifth is over the second.

    And the most that lay on the disk beside the film, against the size of the result.
    """
    film, out = draw_film(folder / "long.mp4", frames, (64, 48)), folder / "out.mp4"
    process = subprocess.Popen(_command(film, out, model), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    samples, most_disk = [], 0
    while process.poll() is None:
        resident = _resident(process.pid)
        samples += [resident] if resident else []
        most_disk = max(most_disk, _bytes_below(folder) - film.stat().st_size)
        time.sleep(1)
    _refuse_failure(process)
    fifth = max(1, len(samples) // 5)
    second, last = statistics.mean(samples[fifth : 2 * fifth] or samples), statistics.mean(samples[-fifth:])
    return {
        "what": f"64x48, {frames} frames, {Path(model).name}",
        "samples": len(samples),
        "peak_gb": round(max(samples) / 1e9, 3),
        "drift_percent": round(100 * (last / second - 1), 2),
        "most_disk_bytes": most_disk,
        "output_bytes": out.stat().st_size,
        "frames_out": len(frame_times(out)),
    }


def timestamps(model: str, folder: Path, frames: int = 120) -> dict[str, Any]:
    """A film of uneven frames with sound through the command: what moved, by PyAV alone and by the command's audit."""
    film, out = draw_film(folder / "uneven.mp4", frames, (96, 64), variable=True, sound=True), folder / "out.mp4"
    line = json.loads(_restore(film, out, model).splitlines()[-1])
    before, after = frame_times(film), frame_times(out)
    sound, kept = sound_packets(film), sound_packets(out)
    return {
        "what": f"96x64, {frames} frames of 8 to 120 ms, AAC, MP4 to MP4, {Path(model).name}",
        "frames_in": len(before),
        "frames_out": len(after),
        "largest_error_ms": round(max((float(abs(a - b)) * 1000 for a, b in zip(before, after, strict=False))), 6),
        "audio_packets": len(sound),
        "audio_packets_equal": [content for _, content in sound] == [content for _, content in kept],
        "sound_offset_change_ms": round(float(kept[0][0] - after[0] - (sound[0][0] - before[0])) * 1000, 6),
        "audit": line["audit"],
    }


def kill(model: str, folder: Path, frames: int = 400, moments: int = 10) -> dict[str, Any]:
    """SIGKILL at random moments, --resume, and the pictures of the result against those of a run that was left alone.

    At 5 frames a second, so that parts of ten seconds are 50 frames.
    """
    film = draw_film(folder / "film.mp4", frames, (128, 96), rate=5)
    start = time.perf_counter()
    _restore(film, folder / "whole.mp4", model)
    whole, expected = time.perf_counter() - start, frame_digests(folder / "whole.mp4")
    rng, runs = random.Random(0), []
    for number in range(moments):
        out, moment = folder / f"killed{number}.mp4", whole * rng.uniform(0.25, 1.0)
        finished = not _killed_after(moment, _command(film, out, model))
        segments = len([*out.with_name(f"{out.name}.parts").glob("*.segment")])
        nothing_half_done = not out.exists() or frame_digests(out) == expected  # whole, when killed in the last check
        if not finished:
            _restore(film, out, model, "--resume")
        found = frame_digests(out)
        runs.append(
            {
                "killed_after_s": None if finished else round(moment, 2),
                "segments_then": segments,
                "nothing_half_done": nothing_half_done,
                "equal": found == expected,
            }
        )
        out.unlink()
    return {
        "what": f"128x96, {frames} frames, {Path(model).name}; the whole run takes {whole:.1f} s",
        "killed": sum(run["killed_after_s"] is not None for run in runs),
        "equal": sum(run["equal"] for run in runs),
        "moments": moments,
        "runs": runs,
    }


RUNS: dict[str, tuple[Callable[[str, Path], dict[str, Any]], str]] = {
    "speed": (speed, "4 rounds of 5 runs; with 5 frames per second about 7 minutes"),
    "memory": (memory, "one command over 10,000 small frames; about 3 minutes"),
    "timestamps": (timestamps, "one short command"),
    "kill": (kill, "a command, and 10 that are killed and resumed; about 5 minutes"),
}
"""What can be measured, and what it costs."""


def run(name: str, model: str) -> dict[str, Any]:
    """One of `RUNS` in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return RUNS[name][0](model, Path(folder))


def _command(film: Path, out: Path, model: str, *more: str) -> list[str]:
    return [str(COMMAND), "restore", str(film), "-o", str(out), "-n", model, "--device", "cpu", "--json", *more]


def _restore(film: Path, out: Path, model: str, *more: str) -> str:
    """What the command says on standard output; it has to succeed. Unless it goes on, an older result is removed."""
    if "--resume" not in more:
        out.unlink(missing_ok=True)
    done = subprocess.run(
        _command(film, out, model, *more),
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"imagesmith restore {film.name} failed with {done.returncode}:\n{done.stderr}")
    return done.stdout


def _killed_after(seconds: float, command: list[str]) -> bool:
    """Whether the command still ran after so long; it and all its children are dead then."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=_ENVIRONMENT, stdout=said, stderr=said, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        if code:
            said.seek(0)
            sys.exit(f"imagesmith restore failed with {code}:\n{said.read().decode(errors='replace')}")
    return False


def _resident(pid: int) -> int:
    """Bytes of a process and its children; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])
    except psutil.Error:
        return 0


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # a part that was just finished
    return total


def _refuse_failure(process: subprocess.Popen) -> None:
    if process.returncode:
        said = process.stderr.read().decode(errors="replace") if process.stderr else ""
        sys.exit(f"imagesmith restore failed with {process.returncode}:\n{said}")


def _exhaust(opened: Any) -> None:
    with opened as reader:
        for _ in reader:
            pass
