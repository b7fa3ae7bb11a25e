"""Saving, which only records what would be saved, and the font for labels."""

from PIL import ImageFont

saved = []


def get_font(fontsize):
    return ImageFont.load_default(fontsize)


def save_image(image, path, basename, seed=None, prompt=None, extension="png", info=None, **rest):
    saved.append({"image": image, "path": path, "basename": basename, "seed": seed, "info": info, **rest})
