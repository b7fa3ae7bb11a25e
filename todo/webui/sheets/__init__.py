"""What a comparison shows: its figures, and the sheets drawn of its images. Independent of the host.

column       the results of one run, and all figures as text and JSON
fidelity     how close an image is to the dense one
pair         the sheet of dense, ToDo and their difference
choice       the sheet of dense and several settings
lettering    what both are drawn with
"""
