"""Write the README's generated table anew, from the committed records and the published figures."""

from pathlib import Path

from seg_jax.report import rows, table

README = Path(__file__).parents[1] / "README.md"

if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(table.render_readme(text, rows.committed_records()), encoding="utf-8")
