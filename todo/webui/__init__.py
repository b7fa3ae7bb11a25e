"""The WebUI side: the only part that imports a host's `modules` and gradio."""
