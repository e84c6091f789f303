"""How many processes restore the pictures of a run, and which pictures must go to the same one."""

import statistics
from collections.abc import Sequence
from operator import itemgetter

import torch

from imagesmith.containers import usable_cores
from imagesmith.data.files import read_header
from imagesmith.errors import ImagesmithError, UsageError
from imagesmith.infer.bulk.process import MANY
from imagesmith.infer.outcome import FileOptions
from imagesmith.infer.plan import Job, output_key
from imagesmith.infer.reading import read_item
from imagesmith.runtime.memory import available_memory

_SMALL_PX = 1 << 20  # pixels up to which one core computes a picture better than all cores together
_LOOKED_AT = 9  # headers that tell how large the pictures are
_PROCESS_BYTES = 800 << 20  # torch, a model, its tiles and a small picture
_MOST_FOR_A_CORE = 4  # processes that a user may ask for
_LEAST_PROCESS_BYTES = 160 << 20  # torch, which every process has to itself


def workers_for(jobs: Sequence[Job], options: FileOptions, device: torch.device) -> int:
    """How many processes shall restore `jobs`; 1 is this one, with all its threads on one picture.

    'auto' takes one process for each core that this run may use where the pictures are many and small. Cores are
    counted by `torch.get_num_threads`, and thus heed OMP_NUM_THREADS, else affinity and container (`pick_device`).
    """
    alone = len(jobs) == 1 or any(job.output is None or job.item.path is None for job in jobs)
    if options.workers != "auto":
        if options.workers > 1 and device.type != "cpu":
            raise UsageError(f"expected one worker on {device.type}, got {options.workers}; it computes no faster")
        return 1 if alone else _checked(min(options.workers, len(jobs)))
    cores = torch.get_num_threads()
    if alone or device.type != "cpu" or cores == 1 or len(jobs) < MANY or _usual_pixels(jobs, options) > _SMALL_PX:
        return 1
    memory = available_memory()
    return cores if memory is None else max(1, min(cores, memory // _PROCESS_BYTES))


def _checked(workers: int) -> int:
    """A number of processes that the user chose; UsageError where the machine would drown in them."""
    cores, memory = usable_cores(), available_memory()
    bounds = {f"{cores} cores that this run may use": _MOST_FOR_A_CORE * cores}
    if memory is not None:
        bounds[f"{memory / 1e9:.1f} GB of memory that are free"] = max(1, memory // _LEAST_PROCESS_BYTES)
    bound, most = min(bounds.items(), key=itemgetter(1))
    if workers > most:
        raise UsageError(
            f"expected at most {most} workers for the {bound}, got {workers}\none for each core is as fast as it gets"
        )
    return workers


def _usual_pixels(jobs: Sequence[Job], options: FileOptions) -> float:
    """The median over some of the pictures, taken from all over the run; those without a header do not count."""
    sizes = list[int]()
    for job in jobs[:: max(1, len(jobs) // _LOOKED_AT)]:
        try:
            header = read_header(read_item(job.item, options))
        except (ImagesmithError, OSError):
            continue
        sizes.append(header.width * header.height)
    return statistics.median(sizes) if sizes else 0


def together(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs whose results differ at most by the ending: as contents decide that, two may turn out to be for one file.

    One process has to see both to tell, as it does where a run has one process only.
    """
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        assert job.output is not None, "standard output takes one picture, which needs no pool"
        groups.setdefault(output_key(job.output.with_suffix("")), []).append(job)
    return list(groups.values())
