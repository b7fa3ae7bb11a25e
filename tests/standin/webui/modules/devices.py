"""The device and its memory."""

import gc

import torch

device = torch.device("cpu")


def torch_gc():
    gc.collect()
