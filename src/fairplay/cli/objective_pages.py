"""How the catalogue of objectives is printed.

Left out: the catalogue (`objectives/`). Floor 8; imports torch through the catalogue, so it is imported when asked for.
"""

import json
from pathlib import Path
from typing import Any

from fairplay.cli.options import Format
from fairplay.cli.printing import print_json, print_table
from fairplay.errors import DataError
from fairplay.lookup import lookup
from fairplay.objectives.check import check_golden
from fairplay.objectives.row import Row
from fairplay.objectives.table import NOTATION, OBJECTIVES

TOLERANCE = 1e-9


def _document(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "paper": row.paper,
        "formula": row.formula,
        "needs": sorted(row.needs),
        "parameters": [{"name": p.name, "default": p.default, "published": p.published} for p in row.parameters],
        "remark": row.remark,
        "elsewhere": row.elsewhere,
    }


def objectives_page(output: Format) -> None:
    """All objectives, a line each."""
    if output is Format.json:
        print_json([_document(row) for row in OBJECTIVES.values()])
        return
    rows = [(row.name, row.title, ", ".join(sorted(row.needs)), row.paper) for row in OBJECTIVES.values()]
    print_table(("name", "title", "needs", "paper"), rows)
    print("\n`fairplay objectives NAME` shows formula and parameters.")


def objective_page(name: str, output: Format) -> None:
    """One objective: formula, source, parameters with defaults and published values, and what its data must have."""
    row = lookup(OBJECTIVES, name, "objective")
    if output is Format.json:
        print_json(_document(row))
        return
    print(f"{row.title} ({row.name})\n{row.paper}\n\n  {row.formula}\n")
    print(f"needs: {', '.join(sorted(row.needs)) or 'responses only'}\n")
    print_table(("parameter", "default", "published"), [(p.name, p.default, p.published) for p in row.parameters])
    if row.remark:
        print(f"\n{row.remark}")
    if row.elsewhere:
        print(f"\nelsewhere: {row.elsewhere}")
    print(f"\nnotation:\n{NOTATION}")


def check_page(path: Path, output: Format) -> int:
    """Compare every objective of a golden file with what the catalogue computes; the exit code says whether all agree.

    Raises:
        DataError: If the file can't be read, or holds no golden values.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't read these golden values ({error})") from error
    if not _is_golden(document):
        raise DataError(
            f"{path}: these are no golden values",
            hint="an object with the objects `data`, `params` and `objectives` (and `listwise`)",
        )
    differences = check_golden(document)
    worst = max((max(d.value, d.gradient or 0.0) for d in differences), default=0.0)
    if output is Format.json:
        print_json([d._asdict() for d in differences])
    else:
        rows = [(d.key, f"{d.value:.1e}", "" if d.gradient is None else f"{d.gradient:.1e}") for d in differences]
        print_table(("objective", "value", "gradient"), rows, title="largest absolute difference")
        print(f"\n{len(differences)} objectives, worst {worst:.1e}, tolerance {TOLERANCE:.0e}")
    return int(not worst <= TOLERANCE)


def _is_golden(document: object) -> bool:
    if not isinstance(document, dict):
        return False
    tables = [document.get(name, {}) for name in ("data", "params", "objectives", "listwise")]
    goldens = [golden for table in tables[2:] if isinstance(table, dict) for golden in table.values()]
    return all(isinstance(item, dict) for item in (*tables, *goldens))
