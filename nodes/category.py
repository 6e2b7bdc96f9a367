"""The menu category of all nodes; its translation is in `locales/<language>/main.json`."""

CATEGORY = "Wan GGUF"
