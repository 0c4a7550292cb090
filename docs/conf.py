"""Sphinx configuration; built by ``tox -e docs``, where a warning is an error."""

from importlib.metadata import version as installed_version

project = "netpoll"
author = "The netpoll developers"
project_copyright = f"2026, {author}"
release = version = installed_version("netpoll")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"netpoll {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
