"""Final answers as text: what each means, and whether two mean the same.

``deciding`` is the door. A text becomes one spelling (``notation``), then a shape (``reading``),
whose formulas are trees (``grammar``); ``comparing`` holds the rule for each pair of shapes.
"""
