"""The WebUI's side: the only place that knows a host's `modules` and gradio.

host         what the host can be asked: its model, its UNet, whether it was interrupted
request      what a page or an API payload asks for, as Settings
generation   ToDo through one generation: patch on, told each step, reported, off
compare      the same generation once more, dense; `sheet` draws the two
infotext     Settings as picture parameters, and back
ui           the accordion
xyz          axes of the X/Y/Z plot
api          the routes /todo/v1/...
log          the named logger
"""
