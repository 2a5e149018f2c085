-- The business table of the example. The outbox beside it: signalbus-relay ddl outbox orders_outbox
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item text NOT NULL
);
