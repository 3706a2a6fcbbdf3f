"""Jobs that are killed at random moments and repeated; `tools/kill_jobs.py` does it at length."""

import importlib
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(("work", "items"), [("folder", 12), ("video", 60)])
def test_nothing_is_lost_by_kills(monkeypatch: pytest.MonkeyPatch, work: str, items: int) -> None:
    if work == "video":
        pytest.importorskip("av")
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = importlib.import_module("kill_jobs")
    counts = tool.count(work, kills=3, items=items, seed=1)
    assert (counts["kills"], counts["items"]) == (3, items)
    assert counts["completed folders"] >= 1
    assert {name: counts[name] for name in tool.LOSSES} == dict.fromkeys(tool.LOSSES, 0)
