"""The command as a module: ``python -m pyfly_messaging.cli``."""

from pyfly_messaging.cli import main

main()
