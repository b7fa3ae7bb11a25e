"""The named logger. The host leaves the level of its root logger at WARNING, so this one has its own handler."""

import logging

logger = logging.getLogger("todo")


def set_up(level: str | None) -> None:
    """Makes the logger print, from `level` (a name such as 'DEBUG'; None: INFO) upwards."""
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s - ToDo - %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel((level or "INFO").upper())
