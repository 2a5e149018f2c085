// Places orders, and announces each in the same transaction:
//
//     DATABASE_URL=postgresql://... node place-order.js tea coffee
"use strict";

const { Client } = require("pg");

async function placeOrder(client, item) {
  await client.query("BEGIN");
  try {
    const placed = await client.query("INSERT INTO orders (item) VALUES ($1) RETURNING id", [item]);
    const orderId = placed.rows[0].id;
    await client.query(
      `INSERT INTO orders_outbox (exchange, routing_key, message_type, correlation_id, headers, body_json)
       VALUES ('orders', 'order.placed', 'OrderPlaced', $1, $2, $3)`,
      [`order-${orderId}`, { "written-by": "node" }, { order_id: Number(orderId), item }],
    );
    await client.query("COMMIT");
    return orderId;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
}

async function main(items) {
  const client = new Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  try {
    for (const item of items) {
      console.log(`Order ${await placeOrder(client, item)} is placed.`);
    }
  } finally {
    await client.end();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
