"""The logger. It has its own handler, because the host leaves its root logger at level WARNING."""

import logging

logger = logging.getLogger("todo")


def set_up(level: str | None) -> None:
    """Makes the logger print messages from `level` upwards, a name such as 'DEBUG'. None means INFO."""
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s - ToDo - %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel((level or "INFO").upper())
