"""Below the publisher: AMQP messages, frames, channels and connections, on pika."""
