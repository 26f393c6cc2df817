"""Writes the documents: ``python -m models.manual``."""

from models.manual import checklist
from models.manual.files import ROOT, texts


def main() -> None:
    """Write what is not up to date, and say so."""
    settled = checklist.settle(checklist.PATH.read_text(encoding="utf-8"))
    table = {checklist.PATH.relative_to(ROOT).as_posix(): settled}
    for name, text in (texts() | table).items():
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
