"""The notebook and the examples of the documentation run."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]


def test_the_notebook_runs_and_shows_figures(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "docs/evaluate.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # outputs do not belong in the repository
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output["data"].get("text/html", "") for output in outputs if "data" in output]
    assert sum(html.count("<svg") for html in shown) == 3  # gaussian, pgd-linf, apgd-ce
    streams = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    assert "Error" not in streams
    assert (tmp_path / "report.html").is_file()
    assert sorted(folder.name for folder in (tmp_path / "runs/mine").iterdir()) == ["attack", "noise"]


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_examples_of_a_page_run_when_pasted(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), flags=re.M | re.S)
    first = next(number for number, block in enumerate(blocks) if "blrobust.evaluate(" in block)
    last = first + 1 if page == "README.md" else len(blocks)
    names: dict[str, Any] = {}
    for block in blocks[first:last]:
        exec(block, names)
    assert {"kind", "model", "level", "accuracy"} <= set(names["results"].table)
