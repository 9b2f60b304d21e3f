"""The site: ``make docs``. Its pages are Markdown; what can be read from the code is (pages.py), and the tutorials are run."""

import os
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import glassgrad  # noqa: E402
import pages  # noqa: E402  (found beside this file)
from glassgrad import lesson  # noqa: E402

pages.write(HERE / "made")
lesson.current().folder = HERE.parent / "build" / "docs-pictures"  # the gallery shows its own copies

project = "glassgrad"
author = "the glassgrad authors"
release = glassgrad.__version__
extensions = ["myst_parser", "sphinx_gallery.gen_gallery"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["gallery/**/*.ipynb", "gallery/**/*.py", "gallery/**/*.md5"]
myst_heading_anchors = 3
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["glassgrad.css"]
html_title = "glassgrad"
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"top_of_page_buttons": []}

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "tutorials"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",
    "ignore_pattern": r"/[^/\d][^/]*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "capture_repr": (),
    "min_reported_time": 0,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib",),
    "log_level": {"backreference_missing": "debug"},
}
