"""The HTML page of a report: one file, no requests, light and dark, readable on a phone."""

import html

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5d6672; --line: #dde1e6; --paper: #fff;
  --panel: #f6f7f9; --bar: #c4d6ee; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa4b0; --line: #343a42;
  --paper: #14171a; --panel: #1d2125; --bar: #35557d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 84rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1, h2, h3 { overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: .9rem; margin: 1.2rem 0 .2rem; font-weight: 600; }
p { max-width: 48rem; margin: .4rem 0; } .soft, figcaption small { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  white-space: nowrap; }
th { white-space: normal; font-weight: 600; color: var(--soft); vertical-align: bottom; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper);
  padding-left: 0; }
.number { text-align: right; }
td.long { white-space: normal; min-width: 15rem; }
td.bar { min-width: 4.5rem; text-align: right; background: linear-gradient(to right,
  var(--bar) var(--share), transparent var(--share)) no-repeat 0 50% / calc(100% - .3rem) 60%; }
.matrix { table-layout: fixed; } .matrix td { min-width: 1.9rem; padding: .2rem; text-align: right;
  background: color-mix(in srgb, var(--bar) var(--share), transparent); }
.matrix thead th { height: 6rem; padding: .2rem; } .matrix thead span { writing-mode: vertical-rl;
  transform: rotate(180deg); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; max-width: none; font-size: .8rem; }
.legend span { white-space: nowrap; }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .35em;
  border: 1px solid var(--soft); border-radius: 2px; vertical-align: -.05em; }
.key { width: 24px; height: 8px; margin-right: .4em; vertical-align: .1em; }
.chart { width: 100%; height: auto; display: block; } .scroll > .chart { min-width: 34rem; }
.chart g:hover path { stroke-width: 3.5; }
.multiples { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr));
  gap: .5rem 1.5rem; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .5rem; }
.compared figure:first-child { grid-column: span 2; grid-row: span 2; }
figure { margin: 0; } figure img { width: 100%; height: auto; display: block; cursor: zoom-in;
  background: var(--panel); border: 1px solid #fff; }
.remarks { max-width: 48rem; padding-left: 1.2rem; } .remarks li { margin: .3rem 0; }
img.png { image-rendering: pixelated; }
figcaption { font-size: .75rem; line-height: 1.3; padding-top: .2rem; overflow-wrap: anywhere; }
figcaption small { display: block; }
dialog { border: 0; padding: 0; background: none; max-width: 96vw; max-height: 96vh; }
dialog::backdrop { background: rgb(0 0 0 / .8); }
dialog img { width: min(96vw, 96vh, 1100px); height: auto; cursor: zoom-out; display: block; }
dialog p { color: #fff; margin: .4rem 0; }
details { margin: .4rem 0; } summary { cursor: pointer; } pre { background: var(--panel);
  padding: .8rem; overflow-x: auto; font-size: .75rem; line-height: 1.4; }
@page { size: A4 landscape; margin: 12mm; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --paper: #fff;
    --panel: #f6f7f9; --bar: #c4d6ee; }
  body { max-width: none; padding: 0; font-size: 10pt; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  .scroll, pre { overflow: visible; }
  table { font-size: 7pt; } th, td { white-space: normal; padding: .15rem .3rem; }
  th, td { overflow-wrap: anywhere; } td.number { white-space: nowrap; }
  td.long { min-width: 0; } td.bar { min-width: 2.5rem; }
  th:first-child, td:first-child { position: static; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .strip { display: flex; flex-wrap: wrap; } .strip figure { flex: 1 1 24mm; max-width: 45mm; }
  thead { display: table-header-group; } h2, h3, summary { break-after: avoid; }
  tr, figure, .chart, .legend, .row, .multiples > div, .matrix { break-inside: avoid; }
}
"""
# Line colours that can be told apart on white and black, also by most colour-blind readers.
_COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccaa22", "#44aacc",
    "#aa3377", "#999999", "#e08030", "#7766cc", "#33997f",
)  # fmt: skip
_DASHES = ("6 3", "2 2")
_SERIES = "".join(
    f".s{index} path {{ stroke: {colour}; }} .s{index} circle {{ fill: {colour}; }}\n"
    for index, colour in enumerate(_COLOURS)
) + "".join(
    f".dash{index} path {{ stroke-dasharray: {dash}; }}\n" for index, dash in enumerate(_DASHES, 1)
)
_CHART = """
.chart text { font-size: 11px; fill: var(--soft); } .chart .grid { stroke: var(--line); }
.chart path, .key path { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
"""
_SCRIPT = """
const box = document.querySelector("dialog");
document.addEventListener("click", event => {
  const image = event.target.closest("figure img");
  if (box.open) box.close();
  else if (image) {
    box.replaceChildren(image.cloneNode(), Object.assign(document.createElement("p"),
      { textContent: image.closest("figure").querySelector("figcaption").innerText }));
    box.showModal();
  }
});
"""


def page(title: str, sections: list[tuple[str, str]], *, introduction: str = "") -> str:
    """Return a whole HTML document.

    Args:
      title: plain text.
      sections: (heading as plain text, body as HTML); sections with an empty body are left out.
      introduction: plain text below the title.
    """
    body = "\n".join(
        f"<h2>{html.escape(heading)}</h2>\n{content}" for heading, content in sections if content
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{_STYLE}{_CHART}{_SERIES}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p class="soft">{html.escape(introduction)}</p>
{body}
<dialog></dialog>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def chart_file(drawn: str) -> str:
    """Return a chart of a page as an SVG file of its own: black on white, with its style sheet.

    Args:
      drawn: an <svg>, of `report.interval_chart` or `report.svg`.
    """
    style = f":root {{ --soft: #444; --line: #ddd; font-family: sans-serif; }}{_CHART}{_SERIES}"
    head, end, rest = drawn.partition(">")
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f"{head}{end}\n<style>{style}</style>{ground}{rest}\n"
