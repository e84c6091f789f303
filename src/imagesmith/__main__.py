"""`python -m imagesmith` is the command `imagesmith`."""

from imagesmith.apps.cli import main

main()
