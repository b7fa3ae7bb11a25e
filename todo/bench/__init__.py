"""Measurements on real UNets: what `python -m todo bench` runs.

Beside the method's own needs these modules want the packages that `make demo` installs; nothing in `todo` but
`__main__` imports them.
"""
