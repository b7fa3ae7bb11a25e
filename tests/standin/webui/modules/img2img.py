"""What the page's button calls."""

from modules import processing, scripts


def img2img(p):
    return scripts.scripts_img2img.run(p, *p.script_args) or processing.process_images(p)
