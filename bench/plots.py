"""Draws how costs grow, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.growth import Curve
from bench.measure import SCALES, CannotMeasure

LABELS = {"checks": "checks of a run", "calls": "calls through int $0x80", "workers": "workers (-n)"}


def require() -> None:
    """Raises CannotMeasure: there is no matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise CannotMeasure("plots need matplotlib; pip install matplotlib, or use `tox run -e bench`") from None


def draw(curves: Sequence[Curve], directory: Path) -> list[Path]:
    """Draws the curves into one file for each thing that grows, and returns the files. Raises CannotMeasure."""
    require()
    return [_draw(name, [curve for curve in curves if curve.name == name], directory) for name in _names(curves)]


def _names(curves: Sequence[Curve]) -> list[str]:
    return list(dict.fromkeys(curve.name for curve in curves))


def _draw(name: str, curves: Sequence[Curve], directory: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    units = list(dict.fromkeys(curve.unit for curve in curves))
    figure, places = pyplot.subplots(1, len(units), figsize=(5.5 * len(units), 4), squeeze=False)
    for place, unit in zip(places[0], units, strict=True):
        for curve in curves:
            if curve.unit == unit:
                sizes = [size for size, _ in curve.points]
                values = [[SCALES[unit] * value for value in values] for _, values in curve.points]
                medians = [SCALES[unit] * value for _, value in curve.medians]
                below = [middle - min(these) for middle, these in zip(medians, values, strict=True)]
                above = [max(these) - middle for middle, these in zip(medians, values, strict=True)]
                place.errorbar(sizes, medians, yerr=[below, above], marker="o", capsize=3, label=curve.what)
        if name == "workers":
            place.set_xticks(sizes)
            place.set_ylim(bottom=0)
        else:
            place.set_xscale("log")
            place.set_yscale("log")
        place.set_xlabel(LABELS[name])
        place.set_ylabel(unit)
        place.grid(True, which="both", alpha=0.3)
        place.legend()
    figure.tight_layout()
    path = directory / f"{name}.png"
    figure.savefig(path, dpi=80, metadata={"Software": None})
    pyplot.close(figure)
    return path
