"""`imagesmith restore` for films: which options are theirs."""

import pytest

from imagesmith.apps.films import FOR_FILMS, FOR_PICTURES, check_options
from imagesmith.errors import UsageError

USUAL = FOR_FILMS | FOR_PICTURES


def test_options_that_films_do_not_know_are_told_once() -> None:
    """The accident: a folder with --max-ram 4G, and its film took twelve; with --uncertainty, and it has no map."""
    asked = {**USUAL, "crf": 20, "partial": True, "max_ram": 1 << 32}
    said = check_options(asked, films=True, pictures=True)
    assert said == "--partial, --max-ram: for pictures alone, films are restored without"
    assert check_options({**USUAL, "partial": True}, films=False, pictures=True) is None
    assert check_options({**USUAL, "crf": 20}, films=True, pictures=True) is None


def test_an_option_that_nothing_has_is_refused() -> None:
    """The accident: --crf for a picture, ignored without a word."""
    for option, are_there in (
        ({"max_ram": 1}, {"films": True, "pictures": False}),
        ({"crf": 1}, {"films": False, "pictures": True}),
    ):
        with pytest.raises(UsageError, match="of which none was named; leave it out"):
            check_options(USUAL | option, **are_there)
