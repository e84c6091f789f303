"""The command `imagesmith`, also as `python -m imagesmith`: from its first moment on, being stopped is no error."""

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Import the command line and run it; Ctrl-C meanwhile, or SIGTERM, ends in a word and code 130."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from imagesmith.apps.cli import main as command

        command()
    except KeyboardInterrupt:
        print("imagesmith: cancelled", file=sys.stderr)
        sys.exit(130)  # as `apps.cli.options.CANCELLED`, which may not be imported yet


if __name__ == "__main__":
    main()
