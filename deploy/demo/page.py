"""The shop for a person with a browser: a form, the last orders, and how many signals wait for a relay."""

from __future__ import annotations

from flask import Blueprint, render_template_string
from sqlalchemy import func, select

from .shop import Order, OrderPlaced, db

SHOWN = 10

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Shop</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  body { max-width: 34rem; margin: 2rem auto; padding: 0 1rem }
  form { display: flex; flex-wrap: wrap; gap: .5rem; align-items: end }
  label { display: grid }
  input { font: inherit; width: 9rem }
  button { font: inherit }
  table { border-collapse: collapse; width: 100% }
  th, td { text-align: left; padding: .2rem .5rem; border-bottom: 1px solid #8886 }
</style>
<h1>Shop</h1>
<form method="post" action="/orders">
  <label>Item <input name="item" value="tea" required maxlength="60"></label>
  <label>Quantity <input name="quantity" type="number" value="1" min="1" max="1000" required></label>
  <button>Order</button>
</form>
<p>{{ count }} orders; {{ waiting }} of their signals wait for a relay.</p>
<table>
  <tr><th>Order</th><th>Item</th><th>Quantity</th><th>Signal</th></tr>
  {% for order, signal_id in orders %}
  <tr><td>{{ order.id }}</td><td>{{ order.item }}</td><td>{{ order.quantity }}</td>
    <td>{{ "waits" if signal_id else "sent" }}</td></tr>
  {% endfor %}
</table>
</html>
"""

pages = Blueprint("pages", __name__)


@pages.get("/")
def shop() -> str:
    of_order = OrderPlaced.order_id == Order.id
    last = select(Order, OrderPlaced.id).outerjoin(OrderPlaced, of_order).order_by(Order.id.desc()).limit(SHOWN)
    return render_template_string(
        PAGE,
        orders=db.session.execute(last).all(),
        count=db.session.scalar(select(func.count(Order.id))),
        waiting=db.session.scalar(select(func.count(OrderPlaced.id))),
    )
