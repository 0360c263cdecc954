"""Write the README's generated tables anew, from what is committed and the published figures."""

from pathlib import Path

from seg_jax.report import crf_table, rows, table

README = Path(__file__).parents[1] / "README.md"

if __name__ == "__main__":
    text = table.render_readme(README.read_text(encoding="utf-8"), rows.committed_records())
    worth = crf_table.markdown(crf_table.committed())
    README.write_text(table.write_section(text, crf_table.MARKERS, worth), encoding="utf-8")
