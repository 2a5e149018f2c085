"""The AMQP layer below the publisher: messages, frames, channels and connections, based on pika."""
