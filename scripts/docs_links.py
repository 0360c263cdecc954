"""A hook of mkdocs: makes links to files outside docs/ point to the repository's web pages.

In the repository, `../scripts/bench.py` works as it is. The site has no such page: there the link
points to $SEG_JAX_FORGE, a URL up to the branch (https://github.com/OWNER/seg_jax/blob/main), or
becomes plain text if that is not set.
"""

import os
import posixpath
import re

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(((?:\.\./)+[^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page, config, files) -> str:
    """Rewrite the page's links to files outside docs/."""
    folder = posixpath.dirname(page.file.src_uri)
    forge = os.environ.get("SEG_JAX_FORGE", "").rstrip("/")

    def rewrite(match: re.Match) -> str:
        mark, text, target, anchor = match.groups(default="")
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/"):
            return match[0]
        return f"{mark}[{text}]({forge}/{path}{anchor})" if forge else text

    return _LINK.sub(rewrite, markdown)
