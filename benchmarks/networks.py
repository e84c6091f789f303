"""Every network of the zoo that restores, alone: as the probe has it run here, in turns with itself in plain float32.

    python benchmarks/networks.py [--models NAME ...] [--side 256] [--device cpu] [--threads 2] [--rounds 15]

Films are computed frame by frame, each with what is remembered of the one before. Rows of other instruction sets are
kept. Writes its part of docs/numbers.md.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inference import finished
from numbers_page import DOCS, write_numbers
from speed_page import ZOO
from timing import RESULTS, environment, instruction_set, replaced, rows_of, save, spread, take_turns

from imagesmith.runtime.device import pick_device, pick_runtime, prepare
from imagesmith.zoo import load_model


def one_pass(net: Any, x: torch.Tensor) -> Callable[[], object]:
    """A call of `net`; for films of a frame that another one went before."""
    if not hasattr(net, "clip"):
        return lambda: net(x)
    _, state = net(x)
    return lambda: net(x, state)


def measure(name: str, side: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """Spreads of both ways, and how many times as fast the one that runs is."""
    net: Any = load_model(name).net.to(device)
    runtime = pick_runtime(net, str(device))
    x = torch.rand(1, net.channels + getattr(net, "planes", 0), side, side, device=device)
    with torch.inference_mode():
        ways = {
            "ours": one_pass(prepare(net, runtime), x.contiguous(memory_format=runtime.memory_format)),
            "plain": one_pass(net, x),
        }
        calls = {way: finished(call, device) for way, call in ways.items()}
        seconds = {way: spread(values) for way, values in take_turns(calls, rounds=rounds, warm_up=3).items()}
    return {
        "model": name,
        "side": side,
        "device": str(device),
        "runtime": str(runtime),
        "seconds": seconds,
        "times_as_fast": round(seconds["plain"]["median"] / seconds["ours"]["median"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=ZOO, default=ZOO)
    parser.add_argument("--side", type=int, default=256, help="of the square picture, which every network can take")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, started = pick_device(options.device), environment(options.threads)
    rows = []
    for name in options.models:
        row = measure(name, options.side, device, options.rounds)
        rows.append({"environment": started, **row})
        print(f"{name}: {row['times_as_fast']:.2f} times as fast as plain, {row['runtime']}", flush=True)

    def place(row: dict[str, Any]) -> object:
        return row["model"], row["side"], row["device"], instruction_set(row)

    save("networks", {"rows": replaced(rows_of("networks", options.results), rows, place)}, options.results)
    if options.results == RESULTS:
        write_numbers(DOCS)


if __name__ == "__main__":
    main()
