"""The how-to about tracing, word by word: request, relay and consumer are processes of their own, and one trace."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.prefork import stand_ins

PAGE = (Path(__file__).parents[3] / "docs/how-to/tracing.md").read_text()


def test_the_how_to_works_as_written(tmp_path: Path, database_url: str, empty_amqp_url: str) -> None:
    [snippet] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "shop.py").write_text(snippet)
    install, *commands = re.findall(r"^\$ (.*)", PAGE, re.MULTILINE)
    assert install == "pip install 'path/to/signalbus[otel]'"
    done = subprocess.run(
        ["bash", "-ec", "\n".join(commands)],
        cwd=tmp_path,
        env=os.environ
        | {
            "DATABASE_URL": database_url,
            "RABBITMQ_URL": empty_amqp_url,
            "PATH": f"{stand_ins(tmp_path / 'programs')}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Order 1 is packed." in done.stdout
    spans = {span["name"]: span for span in map(json.loads, (tmp_path / "spans.jsonl").read_text().splitlines())}
    assert set(spans) == {"POST /orders", "send orders", "process inbox"}
    assert len({span["context"]["trace_id"] for span in spans.values()}) == 1
    assert spans["POST /orders"]["parent_id"] is None
    assert spans["send orders"]["parent_id"] == spans["POST /orders"]["context"]["span_id"]
    assert spans["process inbox"]["parent_id"] == spans["send orders"]["context"]["span_id"]
    assert spans["send orders"]["attributes"]["signalbus.outbox.seconds"] > 0
