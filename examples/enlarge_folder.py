"""Enlarge every picture of a folder that has changed: `python examples/enlarge_folder.py photos/ large/`."""

import sys

import imagesmith as ism


def main(source: str, target: str, model: str = "sr-x4") -> None:
    restorer = ism.Restorer.load(model)
    print(f"{restorer.card.title} on {restorer.runtime}")
    summary = restorer.path(source, target, recursive=True, resume=True)
    for result in summary.results:
        print(result.input, result.status, result.error or result.output)
    sys.exit(summary.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
