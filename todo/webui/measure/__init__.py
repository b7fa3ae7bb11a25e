"""Measure on this machine: how long a sampling step takes here, dense and with ToDo."""
