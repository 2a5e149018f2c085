"""Exit code 0 while the relay in this container makes progress: what ``/livez`` says, and nothing about servers.

Takes the address from ``SIGNALBUS_RELAY_HTTP``, so set that and not ``--http``. A relay without HTTP counts as well.
Imports nothing but the standard library: it runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys


def main() -> int:
    host, _, port = os.environ.get("SIGNALBUS_RELAY_HTTP", "127.0.0.1:9109").rpartition(":")
    if not host:
        return 0
    here = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    connection = http.client.HTTPConnection(here, int(port), timeout=3)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        print(answer.read(500).decode(errors="replace").strip())
    except OSError as error:
        print(f"No answer from {here}:{port}: {error}")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
