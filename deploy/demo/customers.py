"""The customers of the shop: place orders as fast as they can, and tell on standard output what became of each.

One line an order: ``committed ID TIME`` or ``rolled-back ID TIME``; the time is the wall clock's, in seconds.
"""

from __future__ import annotations

import random
import sys
import time

from .shop import OutOfStockError, create_app, db, place_order

#: One order in so many turns out not to be in stock, and is rolled back after its signal was written.
ROLLED_BACK_ONE_IN = 10


def main(number_of_orders: int) -> None:
    chance = random.Random(number_of_orders)
    app = create_app()
    committed = 0
    with app.app_context():
        while committed < number_of_orders:
            in_stock = chance.randrange(ROLLED_BACK_ONE_IN) > 0
            try:
                order_id = place_order("tea", chance.randint(1, 9), in_stock=in_stock)
            except OutOfStockError as error:
                print("rolled-back", error.order_id, time.time())
            else:
                committed += 1
                print("committed", order_id, time.time())
            db.session.remove()


if __name__ == "__main__":
    main(int(sys.argv[1]))
