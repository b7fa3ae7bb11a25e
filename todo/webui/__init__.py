"""The WebUI side: the only part that imports a host's `modules` and gradio.

host         what the host can tell: its model, its UNet, who asked for a generation, whether it was interrupted
runs         generations that the extension starts itself, and the host state to preserve around them
request      what a page or an API payload asks for, as Settings
passes       a pass of sampling: size, batch, steps, hires. fix
variants     the settings that a measurement and a comparison try beside those on the page
generation   ToDo during one generation: patch, point of sampling, report
compare      the same generation again, dense and with other settings
measure      times a sampling step with several settings
infotext     Settings as generation parameters, and back
ui           the accordion
live         the live line
xyz          axes of the X/Y/Z plot
api          the routes /todo/v1/...
log          the logger
"""
