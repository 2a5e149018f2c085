"""The desk where requests ask a database: whatever happens to one request, the next one has its turn."""

from __future__ import annotations

import threading

import pytest
from werkzeug.exceptions import ServiceUnavailable

from relay.web.database_bulkhead import DatabaseBulkhead


def test_machine_without_free_thread_costs_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = DatabaseBulkhead()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    for _ in range(3):
        with monkeypatch.context() as context:
            context.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ServiceUnavailable):
                desk.run(lambda: None)
    assert desk.run(lambda: "done") == "done"
