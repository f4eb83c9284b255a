"""The front door: the `acn` command, its verbs and recipes, tracking, and the demo."""
