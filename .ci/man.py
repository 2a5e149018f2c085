"""The manual page signalbus-relay(1), from the reference: ``python .ci/man.py [FILE]``, by default to standard output.

The pages of ``docs/reference`` are the source, so what the tests hold true there is true here. Of Markdown, only what
these pages use is known: headings, paragraphs, lists, tables, fenced code, inline code, emphasis and links.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"

SUMMARY = "send the signals of an outbox in PostgreSQL to RabbitMQ"

#: The sections, with the page that each is made of.
SECTIONS = (("OPTIONS OF RUN", "options.md"), ("COMMANDS", "commands.md"), ("EXIT STATUS", "exit-codes.md"))


def page() -> str:
    [version] = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    lines = [
        f'.TH SIGNALBUS-RELAY 1 "" "signalbus {version}" "User Commands"',
        ".SH NAME",
        rf"signalbus\-relay \- {SUMMARY}",
        ".SH SYNOPSIS",
        r".B signalbus\-relay",
        r"\fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]",
        ".PP",
        r"Each command lists its options with \fB\-\-help\fR.",
    ]
    for title, name in SECTIONS:
        lines += [f".SH {title}", *roff((REFERENCE / name).read_text())]
    return "\n".join([*lines, ".SH SEE ALSO", r".BR psql (1),", r".BR rabbitmqctl (8)", ""])


def roff(text: str) -> Iterator[str]:
    """The body of a page; its title and its front matter are left out."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^# .*\n|^<!--.*?-->\n", "", text, flags=re.MULTILINE)
    for part in re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL):
        if part.startswith("```"):
            code = "\n".join(part.splitlines()[1:-1])
            yield from (".PP", ".RS 4", ".nf", escaped(code), ".fi", ".RE")
        else:
            for paragraph in re.split(r"\n\s*\n", part.strip()):
                yield from _paragraph(paragraph.strip())


def _paragraph(text: str) -> Iterator[str]:
    if heading := re.match(r"(#{2,}) (.+)\n?", text):
        yield f".SS {inline(heading[2])}"
        yield from _paragraph(text[heading.end() :].strip())
    elif text.startswith("|"):
        head, _, *rows = map(_cells, text.splitlines())
        for term, *rest in rows:
            told = [
                f"default {cell}" if title == "default" else cell
                for title, cell in zip(head[1:], rest, strict=True)
                if cell
            ]
            yield from (".TP", inline(term), r" \(en ".join(map(inline, told)) or r"\&")
    elif re.match(r"- |\d+\. ", text):
        for item in re.split(r"\n(?=- |\d+\. )", text):
            yield from (r".IP \(bu 2", inline(" ".join(re.sub(r"^(- |\d+\. )", "", item).split())))
    elif text:
        yield from (".PP", inline(" ".join(text.split())))


def _cells(row: str) -> list[str]:
    """The cells of a row of a table; a bar in code separates none."""
    hidden = re.sub(r"`[^`]*`", lambda code: code[0].replace("|", "\x00"), row)
    return [cell.strip().replace("\x00", "|") for cell in hidden.split("|")[1:-1]]


def inline(text: str) -> str:
    """One line, with code in bold."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"`([^`]*)`", text)
    shown = [
        rf"\fB{escaped(part)}\fR" if number % 2 else re.sub(r"\*+([^*]+)\*+", r"\\fI\1\\fR", escaped(part))
        for number, part in enumerate(parts)
    ]
    line = "".join(shown)
    return rf"\&{line}" if line.startswith((".", "'")) else line


def escaped(text: str) -> str:
    """Text in which roff finds no request; a hyphen stays one, so that options can be copied."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def main(arguments: list[str]) -> None:
    if arguments:
        Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments[0]).write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
