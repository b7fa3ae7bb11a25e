"""A WebUI in small, for tests: see host.py."""
