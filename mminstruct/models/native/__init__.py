"""Native models: transformers' own image-and-text classes, with their own processors, on the roads of our own models.

A native model's folder is in its own hub layout (`AutoModelForImageTextToText` and `AutoProcessor` open it) with our
`mminstruct.json` beside it. Nothing wraps the module, so its tensors keep their names.
"""
