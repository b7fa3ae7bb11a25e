"""The WebUI side: the only part that imports a host's `modules` and gradio.

host         what the host can tell: its model, its UNet, whether it was interrupted
runs         generations that the extension starts itself, and the host state to preserve around them
request      what a page or an API payload asks for, as Settings
generation   ToDo during one generation: patch, point of sampling, report
compare      the same generation again, dense and with other settings
sheets       the figures and images that a comparison shows
measure      times a sampling step with several settings
candidates   the settings that both try beside those on the page
rounds       times one UNet call in alternating rounds
figures      the result of a measurement, as text and HTML
measured     what was measured, for the live line
infotext     Settings as generation parameters, and back
ui           the accordion
live         the live line
xyz          axes of the X/Y/Z plot
api          the routes /todo/v1/...
log          the logger
"""
