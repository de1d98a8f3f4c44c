"""The house keeps its promises: light imports, and a README that tells the truth about the rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fairplay"


@pytest.mark.parametrize(
    "module", ["fairplay", "fairplay.cli.main", "fairplay.records", "fairplay.reports.contents", "fairplay.data.check"]
)
def test_importing_it_loads_no_torch(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"


def test_openmp_threads_wait_without_spinning():
    code = "import os; os.environ.pop('OMP_WAIT_POLICY', None); import fairplay; print(os.environ['OMP_WAIT_POLICY'])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "PASSIVE\n"


def test_models_are_imported_without_a_word():
    code = "import fairplay.models.loading, torchao, bitsandbytes"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout + told.stderr == ""


def test_the_readme_lists_every_room_and_no_other():
    tree = (ROOT / "README.md").read_text().split("src/fairplay/\n")[1].split("```")[0]
    told = {
        line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ") and "/" in line.split()[0]
    }
    assert told == {path.name for path in SOURCE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    files = {word for line in tree.splitlines() for word in line.split() if word.endswith(".py")}
    assert files == {path.name for path in SOURCE.glob("*.py")} - {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_says_what_it_is_and_where_it_lies(path):
    opening = path.read_text().split('"""')[1]
    assert path.name in ("__init__.py", "__main__.py", "errors.py") or "Floor" in opening


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_function_has_more_than_sixty_lines_besides_its_docstring(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            has_docstring = ast.get_docstring(node) is not None
            told = first.end_lineno - first.lineno + 1 if has_docstring else 0
            assert node.end_lineno - node.lineno + 1 - told <= 60, node.name
