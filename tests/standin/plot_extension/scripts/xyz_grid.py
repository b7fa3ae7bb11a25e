"""The X/Y/Z plot as a built-in extension, with its axes in a separate package."""

from lib_plot.classes import AxisOption, axis_options
from modules import scripts


class PlotScript(scripts.Script):
    def title(self):
        return f"X/Y/Z plot of {len(axis_options)} axes, each an {AxisOption.__name__}"
