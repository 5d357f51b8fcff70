"""The RabbitMQ adapter, on aiormq, the engine of aio-pika."""

from pyfly_messaging.adapters.rabbitmq.adapter import RabbitMQAdapter

__all__ = ["RabbitMQAdapter"]
