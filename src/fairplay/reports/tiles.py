"""The four figures of the last iterate that a reader sees first. Left out: everything else. Floor 5; pure."""

from dataclasses import dataclass

from fairplay.reports.contents import ReportContents
from fairplay.reports.decision import headline_result, too_many_missing
from fairplay.reports.wording import NOT_DEFINED, bounds, is_defined, number, percent, points


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure with what it is and its interval or comparison."""

    title: str
    value: str
    detail: str


def find_tiles(contents: ReportContents) -> tuple[Tile, ...]:
    """Win rate, win rate at equal length, oracle minus judge, and mean length; none before something was judged."""
    result = headline_result(contents.iterations[-1]) if contents.iterations else None
    if result is None:
        return ()
    tiles = []
    for title, interval in (("Win rate by the judge", result.win_rate), ("At equal length", result.lc_win_rate)):
        withheld = "withheld: too many games have no verdict" if too_many_missing(result) else ""
        defined = is_defined(interval) and not withheld
        tiles.append(
            Tile(
                title,
                percent(interval.value) if defined else NOT_DEFINED,
                bounds(interval) if defined else withheld or "not defined",
            )
        )
    gap = contents.iterations[-1].oracle_gaps.get(result.opponent)
    if gap is not None and is_defined(gap):
        tiles.append(Tile("Oracle minus judge", points(gap.value), f"points {bounds(gap, signed=True)}"))
    detail = f"theirs {number(result.opponent_mean_length)}"
    tiles.append(Tile(f"Mean length, {contents.length_unit}", number(result.mean_length), detail))
    return tuple(tiles)
