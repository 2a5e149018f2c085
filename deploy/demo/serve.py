"""The shop as a service: ``python -m deploy.demo.serve HOST:PORT``. It listens once it is open for orders."""

from __future__ import annotations

import sys

import waitress

from .opening import open_shop
from .shop import create_app


def main(address: str) -> None:
    app = create_app()
    open_shop(app)
    print(f"The shop takes orders at http://{address}/orders", flush=True)
    waitress.serve(app, listen=address)


if __name__ == "__main__":
    main(sys.argv[1])
