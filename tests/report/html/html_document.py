"""Read a page as a browser would, by Python's own parser."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Document(HTMLParser):
    """The elements of a page: their names, attributes and texts; `faults` lists what is not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.faults, self._open = [], [], []
        self.feed(text)
        self.close()
        self.faults += [f"<{element['name']}> stays open" for element in self._open]

    def handle_starttag(self, tag, attributes):
        element = {"name": tag, "attributes": dict(attributes), "text": "", "of": [e["name"] for e in self._open]}
        element["ids"] = [e["attributes"]["id"] for e in self._open if "id" in e["attributes"]]
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        if not self._open or self._open[-1]["name"] != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")
        else:
            self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, name, *, within=None):
        """The elements of a name, of the part with an id."""
        return [e for e in self.elements if e["name"] == name and (within is None or within in e["ids"])]

    def rows(self, within):
        """The texts of the cells of every table row of the part with an id."""
        rows = []
        for element in self.elements:
            if within not in element["ids"]:
                continue
            if element["name"] == "tr":
                rows.append([])
            elif element["name"] in ("td", "th"):
                rows[-1].append(" ".join(element["text"].split()))
        return rows
