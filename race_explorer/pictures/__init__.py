"""Pictures of a failing schedule: lanes for a terminal, one HTML page, and text for other tools.

Rules:
- A picture is a function of a `Story`, and the same story gives the same bytes.
- Nothing here judges a run: what went wrong, and which order of two steps decides, is given.
"""
