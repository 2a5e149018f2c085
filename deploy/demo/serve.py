"""The shop as a service: ``python -m deploy.demo.serve HOST:PORT``.

It listens once it is open for orders, and answers those that it has taken before it ends on SIGTERM.
"""

from __future__ import annotations

import signal
import sys

import waitress

from .opening import open_shop
from .page import pages
from .shop import create_app


def main(address: str) -> None:
    # The first process of a container is not ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    app = create_app()
    app.register_blueprint(pages)
    open_shop(app)
    print(f"The shop is at http://{address}/, and takes orders at /orders", flush=True)
    waitress.serve(app, listen=address)


if __name__ == "__main__":
    main(sys.argv[1])
