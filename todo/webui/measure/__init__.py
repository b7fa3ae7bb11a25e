"""Measure on this machine: how long a sampling step takes here, dense and with ToDo.

action       what the page's buttons do
call         the host's own UNet call, in a hidden generation that is stopped after its first step
rounds       times that call with several settings in turn; independent of the host
result       what was measured, as text and HTML; independent of the host
remembered   what was measured since the WebUI was started, for the live line
"""
