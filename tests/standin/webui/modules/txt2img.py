"""What the page's button calls."""

from modules import processing, scripts


def txt2img(p):
    return scripts.scripts_txt2img.run(p, *p.script_args) or processing.process_images(p)
