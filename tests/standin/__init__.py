"""A minimal WebUI for tests. See host.py."""
