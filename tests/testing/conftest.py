"""The folder `isolation` is a project of its own, which `test_plugin.py` runs."""

collect_ignore = ["isolation"]
