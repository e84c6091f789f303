"""What libx264 is told wherever it encodes."""

import torch


def repeatable() -> dict[str, str]:
    """The options by which the same frames become the same film in every run.

    By AVX-512 x264 reads memory that it never set.
    """
    return {"x264-params": "asm=avx2"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}
