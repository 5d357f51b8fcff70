"""The Kafka adapter, on aiokafka."""

from pyfly_messaging.adapters.kafka.adapter import KafkaAdapter

__all__ = ["KafkaAdapter"]
