"""The version, which pyproject.toml and the generation parameters read."""

__version__ = "0.3.0"
