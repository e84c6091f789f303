"""Every error a user can cause.

ImagesmithError                 exit code 3 when it ends one item, its own code when it ends the run
├── UsageError              2   the command or call asks for something that cannot be
│   └── ConfigError         2   a configuration has an unknown key, a wrong type or a contradiction
├── NothingUsableError      4   no item of the input could be used at all
├── ImageError              3   one image file cannot be used
│   ├── FormatError         3   not an image, or a format that is not on the list
│   ├── TruncatedError      3   the file ends before its image does
│   └── TooLargeError       3   the declared size is over the pixel limit, or over what memory takes
├── VideoError              3   one film, animation or folder of frames cannot be used
├── ModelError              2   a model name or file cannot be used
│   └── IntegrityError      2   a file's content does not match its own sha256
├── WorkerError             3   a process that worked on a picture died, again and again
├── OutputError             3   a result cannot be written: exists, no permission, disk full
└── TrainingError           3   a training run cannot go on

A message says what was expected, what was found and what to do, in at most three lines.
Mistakes of the programmer are plain `assert`s and never end up here.
"""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the known word most like `word`, '' where none is alike."""
    match = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{match[0]}'?)" if match else ""


def not_one_of(kind: str, word: str, known: Iterable[str]) -> str:
    """The message for a name that is not in a table: "expected a loss out of l1, l2, got 'l3' (did you mean 'l1'?)"."""
    known = list(known)
    return f"expected {kind} out of {', '.join(known)}, got '{word}'{did_you_mean(word, known)}"


class ImagesmithError(Exception):
    """Base of all errors whose message is meant for the user; apps print it without a traceback."""

    exit_code = 3


class UsageError(ImagesmithError):
    """The command or call asks for something that cannot be done."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration has an unknown key, a wrong type or a contradiction."""


class NothingUsableError(ImagesmithError):
    """No item of the input could be used at all."""

    exit_code = 4


class ImageError(ImagesmithError):
    """One image file cannot be used."""


class FormatError(ImageError):
    """Not an image, or a format that is not on the list."""


class TruncatedError(ImageError):
    """The file ends before its image does."""


class TooLargeError(ImageError):
    """The declared size is over the pixel limit, or over what memory takes."""


class VideoError(ImagesmithError):
    """One film, animation or folder of frames cannot be used."""


class ModelError(ImagesmithError):
    """A model name or file cannot be used."""

    exit_code = 2


class IntegrityError(ModelError):
    """A file's content does not match the sha256 it carries."""


class WorkerError(ImagesmithError):
    """A process that worked on a picture died, again and again."""


class OutputError(ImagesmithError):
    """A result cannot be written: it exists, the folder is not writable, the disk is full."""


class DiskFullError(OutputError):
    """A result cannot be written, as there is no room for it."""


class TrainingError(ImagesmithError):
    """A training run cannot go on."""
