-- Places an order, and announces it in the same transaction:
--
--     psql "$DATABASE_URL" --set item=tea --file place-order.sql

\set ON_ERROR_STOP on
\if :{?item}
\else
    \set item tea
\endif

BEGIN;

WITH placed AS (
    INSERT INTO orders (item) VALUES (:'item') RETURNING id, item
)
INSERT INTO orders_outbox (exchange, routing_key, message_type, correlation_id, headers, body_json)
SELECT
    'orders',
    'order.placed',
    'OrderPlaced',
    'order-' || id,
    jsonb_build_object('written-by', 'psql'),
    jsonb_build_object('order_id', id, 'item', item)
FROM placed;

COMMIT;
