"""Sphinx: the pages of docs/ and one page per module, from its docstrings (`make docs`)."""

import types

import deep_reid

project = "Deep ReID"
release = deep_reid.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
exclude_patterns = ["_build/html", "_templates"]
templates_path = ["_templates"]
myst_heading_anchors = 3

# A name in single backticks leads to its page, where it has one.
default_role = "py:obj"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
html_title = f"Deep ReID {release}"
html_show_copyright = False
html_theme_options = {"page_width": "1100px"}


def skip_aliases(app, what, name, obj, skip, options):
    """Leave out aliases of types, such as ``list[str]``: they have no signature to document."""
    return True if isinstance(obj, types.GenericAlias) else None


def setup(app):
    """Connect to Sphinx."""
    app.connect("autodoc-skip-member", skip_aliases)
