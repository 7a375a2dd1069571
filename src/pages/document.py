"""A report as a list of blocks, written as one HTML file that needs nothing beside it, or as Markdown with pictures."""

from __future__ import annotations

import base64
import html
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from src.plots.base import Figure
from src.plots.svg import svg


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines as they stand; folded away under a heading, if it has one."""

    text: str
    folded: str | None = None


@dataclass(frozen=True)
class Table:
    """Headings and rows; `keys` is what a cell is sorted by where that is not its text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Sequence[Sequence[object]] | None = None


@dataclass(frozen=True)
class Picture:
    """A PNG file, or a figure that is still to be drawn."""

    source: Path | Figure
    caption: str = ""


Block = Text | Code | Table | Picture


@dataclass
class Document:
    """A title and sections of blocks; an empty section is left out."""

    title: str
    sections: list[tuple[str, list[Block]]] = field(default_factory=list)

    def add(self, heading: str, *blocks: Block | None) -> None:
        """Add a section of these blocks; None among them is left out, and without any block there is no section."""
        if kept := [block for block in blocks if block is not None]:
            self.sections.append((heading, kept))

    def html(self) -> str:
        """Write the page as one HTML file that needs no other: pictures and styles are inside."""
        template = string.Template(files("src.pages").joinpath("document.html").read_text(encoding="utf-8"))
        parts = []
        for heading, blocks in self.sections:
            parts += [f"<h2>{html.escape(heading)}</h2>"] if heading else []
            parts += [_as_html(block) for block in blocks]
        return template.substitute(title=html.escape(self.title), body="\n".join(parts))

    def markdown(self, pictures: Path) -> str:
        """The text; its pictures are written into a folder that lies beside it.

        Args:
            pictures: the folder.
        """
        parts, count = [f"# {self.title}"], 0
        for heading, blocks in self.sections:
            parts += [f"## {heading}"] if heading else []
            for block in blocks:
                if isinstance(block, Picture):
                    count += 1
                    pictures.mkdir(exist_ok=True)
                    path = pictures / f"{count:02d}.{'svg' if isinstance(block.source, Figure) else 'png'}"
                    content = (
                        svg(block.source).encode() if isinstance(block.source, Figure) else block.source.read_bytes()
                    )
                    path.write_bytes(content)
                    parts.append(f"![{block.caption}]({pictures.name}/{path.name})")
                else:
                    parts.append(_as_markdown(block))
        return "\n\n".join(parts) + "\n"


def _as_html(block: Block) -> str:
    if isinstance(block, Text):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Code):
        code = f"<pre>{html.escape(block.text)}</pre>"
        return f"<details><summary>{html.escape(block.folded)}</summary>{code}</details>" if block.folded else code
    if isinstance(block, Table):
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in block.header)
        rows = []
        for number, row in enumerate(block.rows):
            keys = block.keys[number] if block.keys else [None] * len(row)
            marks = (f' data-key="{key}"' if key is not None else "" for key in keys)
            cells = "".join(f"<td{mark}>{html.escape(cell)}</td>" for cell, mark in zip(row, marks, strict=False))
            rows.append(f"<tr>{cells}</tr>")
        body = "\n".join(rows)
        return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    if isinstance(block.source, Figure):
        picture = svg(block.source)
    else:
        picture = f'<img alt="" src="data:image/png;base64,{base64.b64encode(block.source.read_bytes()).decode()}">'
    caption = f"<figcaption>{html.escape(block.caption)}</figcaption>" if block.caption else ""
    return f"<figure>{picture}{caption}</figure>"


def _as_markdown(block: Text | Code | Table) -> str:
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Code):
        return (f"{block.folded}:\n\n" if block.folded else "") + f"```\n{block.text.rstrip()}\n```"
    lines = [block.header, ["---"] * len(block.header), *block.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
