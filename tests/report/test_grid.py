"""Cells keep their text in Markdown and HTML, and cannot become markup."""

from html.parser import HTMLParser

import pytest

from seg_jax.report.grid import Column, Grid, count, duration, percent

HOSTILE = 'a|b <script>alert(1)</script> *x* [l](u) `c` \\ _e_ snake_case & "q"\nline'


def test_markdown_is_padded_and_numbers_are_right_aligned():
    grid = Grid((Column("name"), Column("mIoU", number=True)), (("fcn_32s", "7.5"), ("b", "12.5")))
    assert grid.as_markdown().splitlines() == [
        "| name    | mIoU |",
        "| ------- | ---: |",
        "| fcn_32s |  7.5 |",
        "| b       | 12.5 |",
    ]


def test_markdown_cells_cannot_break_out():
    cell = Grid((Column("c"),), ((HOSTILE,),)).as_markdown().splitlines()[2]
    assert cell == (
        r"| a\|b &lt;script&gt;alert(1)&lt;/script&gt; \*x\* \[l\](u) \`c\` \\ \_e\_ snake_case "
        '&amp; "q" line |'
    )


def test_html_cells_cannot_break_out():
    class Reader(HTMLParser):
        tags, text = [], ""

        def handle_starttag(self, tag, attributes):
            self.tags.append(tag)

        def handle_data(self, data):
            self.text += data

    reader = Reader()
    reader.feed(Grid((Column("<b>"),), ((HOSTILE,),)).as_html())
    assert reader.tags == ["div", "table", "thead", "tr", "th", "tbody", "tr", "td"]
    assert HOSTILE in reader.text
    assert "<b>" in reader.text


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Grid((Column("a"), Column("b")), (("1",),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.62731), "62.7"),
        (percent(1.0), "100.0"),
        (percent(None), "–"),
        (count(134_346_581), "134.3 M"),
        (count(1_500), "1.5 k"),
        (count(12), "12"),
        (duration(3.2), "3 s"),
        (duration(83), "1.4 min"),
        (duration(7325), "2.0 h"),
        (duration(200_000), "2.3 d"),
        (duration(None), "–"),
    ],
)
def test_formatted_numbers(text, expected):
    assert text == expected
