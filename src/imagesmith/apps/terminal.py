"""What of other people's making may be shown on a terminal, which obeys what it is shown."""

import unicodedata


def plain(text: str, *, keep: str = "\n") -> str:
    r"""The text with control characters as \xNN, but those to `keep`; names of files are shown with none."""
    return "".join(
        letter if letter in keep or unicodedata.category(letter) != "Cc" else f"\\x{ord(letter):02x}" for letter in text
    )
