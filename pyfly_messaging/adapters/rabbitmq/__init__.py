"""The RabbitMQ adapter, on aio-pika and the aiormq below it."""

from pyfly_messaging.adapters.rabbitmq.adapter import RabbitMQAdapter

__all__ = ["RabbitMQAdapter"]
