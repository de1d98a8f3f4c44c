import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_on_scaling_has_the_tables_that_its_script_makes(tmp_path):
    shutil.copy(ROOT / "docs" / "scaling.md", tmp_path)
    script = ROOT / "benchmarks" / "scaling.py"
    subprocess.run([sys.executable, script, "--docs", tmp_path], check=True, capture_output=True)
    assert (tmp_path / "scaling.md").read_text() == (ROOT / "docs" / "scaling.md").read_text()
