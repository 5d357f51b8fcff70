"""From modules, classes and functions to a running application, and back.

What does the work is imported by the first call, so that business code, which imports the package
for its port, does not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfly_messaging.bootstrap.application import Application
    from pyfly_messaging.ports import MessageBrokerPort
    from pyfly_messaging.settings import MessagingSettings

__all__ = ["bootstrap", "run"]


def bootstrap(
    *sources: object,
    settings: MessagingSettings | None = None,
    broker: MessageBrokerPort | None = None,
) -> Application:
    """Return the application that the sources make up, not started.

    ::

        async with bootstrap("shop.orders") as broker:
            await broker.publish("orders", b"…")

    Args:
        sources: Modules and their dotted names (a package means its modules too), classes,
            instances, and functions under ``@message_listener``.
        settings: By default what the environment and ``pyfly.yaml`` say.
        broker: What carries the messages, not started. By default the one bean that is a broker,
            else what the settings choose. The application stops it.

    Raises:
        TypeError: ``settings`` or ``broker`` is something else.

    """
    from pyfly_messaging.bootstrap.application import application

    return application(sources, settings, broker)


def run(
    *sources: object,
    settings: MessagingSettings | None = None,
    broker: MessageBrokerPort | None = None,
) -> None:
    """Run an application until SIGINT or SIGTERM; the blocking form of `bootstrap`.

    The first signal stops the intake, lets running handlers finish, and returns; while the start
    still tries to reach a broker, it gives up and returns. A second signal cancels what still runs
    and exits with 128 + its number (130 or 143). The previous signal handlers are restored.

    Args:
        sources: As for `bootstrap`.
        settings: As for `bootstrap`.
        broker: As for `bootstrap`.

    Raises:
        RuntimeError: Outside of the main thread, which alone gets signals, or inside of a running
            event loop.
        SystemExit: A second signal came.
        Exception: What `Application.start` and `Application.stop` raise.

    """
    from pyfly_messaging.bootstrap.program import run_application

    run_application(bootstrap(*sources, settings=settings, broker=broker))
