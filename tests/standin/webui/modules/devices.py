"""The device's memory."""

import gc


def torch_gc():
    gc.collect()
