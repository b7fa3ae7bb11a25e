"""The parts of the X/Y/Z plot that the axes of an extension use."""

from copy import copy

from modules import processing, scripts


class AxisOption:
    def __init__(self, label, type, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None):
        self.label = label
        self.type = type
        self.apply = apply
        self.format_value = format_value
        self.confirm = confirm
        self.cost = cost
        self.choices = choices
        self.prepare = prepare


class AxisOptionImg2Img(AxisOption):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_img2img = True


def do_nothing(p, x, xs):
    pass


axis_options = [AxisOption("Nothing", str, do_nothing), AxisOptionImg2Img("Image CFG Scale", float, do_nothing)]


class Script(scripts.Script):
    def title(self):
        return "X/Y/Z plot"

    def run(self, p, *axes):
        """Generates an image for each combination of values. An axis is a label and its values, as typed."""
        by_label = {option.label: option for option in axis_options}
        chosen = [(by_label[label], values) for label, values in axes]
        typed = []
        for option, values in chosen:
            typed.append([option.type(value) for value in values])
            if option.confirm:
                option.confirm(p, typed[-1])
        cells = [()]
        for values in typed:
            cells = [(*cell, value) for cell in cells for value in values]
        return [self.cell(p, chosen, cell, typed) for cell in cells]

    def cell(self, p, chosen, cell, typed):
        pc = copy(p)
        for (option, _), value, values in zip(chosen, cell, typed, strict=True):
            option.apply(pc, value, values)
        return processing.process_images(pc)
