"""Sphinx settings of the site: `make docs` builds English pages into site/, Chinese into site/zh.

The pages are those that GitHub shows, from the README on: links between files are links between
pages, and docs/README.md is the table of contents of both languages. Chinese pages lie beside the
English ones (`data.zh.md`); those without one are linked in English. Nothing is loaded from a
network when the site is read, formulas are MathML, and every warning is an error.
"""

from __future__ import annotations

import logging
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jieba
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.logging import getLogger

ROOT = Path(__file__).resolve().parents[2]
CONTENTS = "docs/README.md"
REPORTS = "docs/benchmarks/README"
SHORT_CODE = 24  # letters
CHINESE = "zh_CN"
CHINESE_HOME = "README.zh-CN.md"
SECTIONS = {  # of CONTENTS, in Chinese
    "Start": "入门",
    "At work": "使用",
    "Networks": "网络",
    "Help": "帮助",
    "Evidence and code": "证据与代码",
}
logger = getLogger(__name__)

project = "reparam-yolov5"
author = project_copyright = "The reparam-yolov5 authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = [".*", "site", "runs", "tests", "experiments", "examples", "benchmarks", "utils"]
highlight_language = "text"
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
smartquotes = False  # a flag keeps its two hyphens

html_theme = "furo"
html_math_renderer = "mathml"
html_title = "Re-parameterizable YOLOv5"
html_show_sourcelink = False
html_copy_source = False
html_css_files = ["site.css"]
MATH_FONT = files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"
html_static_path = ["static", str(MATH_FONT)]
templates_path = ["templates"]
locale_dirs = ["docs/site/locale"]  # from ROOT
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    jieba.setLogLevel(logging.WARNING)  # it tells how long it takes to load
    app.connect("config-inited", choose_pages)
    app.connect("source-read", add_contents)
    app.connect("doctree-read", link_other_language)
    app.connect("doctree-read", keep_short_code_together)
    app.connect("html-page-context", name_other_language)
    app.connect("build-finished", write_start)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))


def choose_pages(_app: Sphinx, config: Config) -> None:
    """The pages of one language: `-D language=zh_CN` for the Chinese ones."""
    if config.language == CHINESE:
        config.include_patterns = [CHINESE_HOME, "**.zh.md"]
        config.root_doc = CHINESE_HOME.removesuffix(".md")
        config.html_title = "可重参数化的 YOLOv5"
    else:
        config.include_patterns = ["*.md", "docs/**.md", "data/**.md", "models/**.md"]
        config.exclude_patterns = [*config.exclude_patterns, CHINESE_HOME, "**.zh.md"]
        config.root_doc = "README"


def twin(page: str) -> str:
    """The path of a page in the other language, whether or not it exists; from ROOT."""
    if page == CHINESE_HOME:
        return "README.md"
    if page == "README.md":
        return CHINESE_HOME
    if page.endswith(".zh.md"):
        return page.removesuffix(".zh.md") + ".md"
    return page.removesuffix(".md") + ".zh.md"


def contents() -> dict[str, list[tuple[str, str]]]:
    """Section of CONTENTS -> title and path (from ROOT) of its pages."""
    found: dict[str, list[tuple[str, str]]] = {}
    section = ""
    for line in (ROOT / CONTENTS).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif match := re.fullmatch(r"- \[(.+)\]\((.+)\)", line):
            path = os.path.normpath(Path(CONTENTS).parent / match[2]).replace(os.sep, "/")
            found.setdefault(section, []).append((match[1], path))
    return found


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give the first page the table of contents, and the page of reports the reports."""
    if docname == REPORTS:
        source[0] += "\n\n```{toctree}\n:hidden:\n:glob:\n\n*_20*\n```\n"
    if docname != app.config.root_doc:
        return
    for section, pages in contents().items():
        entries = [(title, path) for title, path in pages if path != "README.md"]
        first = [CONTENTS] if section == "Start" else []
        if app.config.language == CHINESE:
            twins = [twin(path) for path in (*first, *(path for _, path in entries))]
            found = [path for path in twins if (ROOT / path).is_file()]
            lines = [f"/{path.removesuffix('.md')}" for path in found]
            section = SECTIONS[section]
        else:
            lines = [f"/{path.removesuffix('.md')}" for path in first]
            lines += [f"{title} </{path.removesuffix('.md')}>" for title, path in entries]
        if lines:
            entry = "\n".join(lines)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {section}\n\n{entry}\n```\n"


def link_other_language(app: Sphinx, doctree: nodes.document) -> None:
    """Links to pages of the other language lead into its site; MyST warns of all others."""
    chinese = app.config.language == CHINESE
    for link in list(doctree.findall(addnodes.pending_xref)):
        page = f"{link['reftarget']}.md"
        if link["refdomain"] != "doc" or chinese == is_chinese(page):
            continue
        if not is_chinese(page) and page not in english_pages():
            logger.warning("%s is no page of this site", page, location=link)
        fragment = f"#{link['reftargetid']}" if link.get("reftargetid") else ""
        target = site_path(app, app.env.docname, page) + fragment
        link.replace_self(nodes.reference("", "", *link.children, refuri=target))


def keep_short_code_together(_app: Sphinx, doctree: nodes.document) -> None:
    """Mark code that the style sheet keeps on one line: browsers break flags after hyphens."""
    for code in doctree.findall(nodes.literal):
        if len(code.astext()) <= SHORT_CODE:
            code["classes"].append("short")


def is_chinese(page: str) -> bool:
    """Whether a path is that of a Chinese page."""
    return page == CHINESE_HOME or page.endswith(".zh.md")


def english_pages() -> set[str]:
    """Paths from ROOT of all English pages."""
    reports = (ROOT / REPORTS).parent.glob("*.md")
    listed = {path for pages in contents().values() for _, path in pages}
    return listed | {CONTENTS} | {path.relative_to(ROOT).as_posix() for path in reports}


def site_path(app: Sphinx, docname: str, page: str) -> str:
    """From a page of this site to one of the other language's; they are `site` and `site/zh`."""
    up = "../" * docname.count("/")
    folder = "../" if app.config.language == CHINESE else "zh/"
    return f"{up}{folder}{page.removesuffix('.md')}.html"


def name_other_language(
    app: Sphinx, pagename: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    """Where the other language has this page, or else its first one: the link above the search."""
    page, chinese = twin(f"{pagename}.md"), app.config.language == CHINESE
    name = "English" if chinese else "中文"
    if not (ROOT / page).is_file():
        page, name = ("README.md", name) if chinese else (CHINESE_HOME, "中文首页")
    context["other_language"] = name
    context["other_language_path"] = site_path(app, pagename, page)


def write_start(app: Sphinx, error: Exception | None) -> None:
    """index.html leads to the first page."""
    if error is None:
        page = f"{app.config.root_doc}.html"
        text = f'<!doctype html><meta charset="utf-8"><title>{app.config.html_title}</title>'
        text += f'<meta http-equiv="refresh" content="0; url={page}"><a href="{page}">{page}</a>\n'
        (Path(app.outdir) / "index.html").write_text(text, encoding="utf-8")


def visit_inline(translator: Any, node: nodes.math) -> None:
    """A formula in a line."""
    translator.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """A formula on lines of its own, which scrolls where it is too wide."""
    translator.body.append(f'<div class="formula">{mathml(node, block=True)}</div>\n')
    raise nodes.SkipNode


def mathml(node: nodes.Element, *, block: bool) -> str:
    """A formula in TeX as MathML, which browsers show by themselves."""
    try:
        return str(tex2mathml(node.astext(), as_block=block))
    except MathError as error:
        logger.warning("%s: %s", node.astext(), error, location=node)
        return ""
