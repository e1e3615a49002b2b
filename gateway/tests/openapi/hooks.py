"""What the document says in words and no schema can: names are so many bytes of printable UTF-8."""

import itertools
import re

import schemathesis
from hypothesis import strategies as st

# Of the categories that are printable, without the few that gateway/src/name.rs leaves out as well.
printable = st.characters(
    categories=("L", "M", "N", "P", "S", "Zs"),
    exclude_characters=[chr(c) for c in (*range(0xFFF0, 0x10000),)],
    max_codepoint=0xDFFFF,
)


def name(longest, first):
    """Short ones mostly; the longest by bytes now and then."""
    short = st.text(printable, min_size=1, max_size=20)
    long = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7D), min_size=longest, max_size=longest)
    return st.one_of(short, long).filter(lambda text: len(text.encode()) <= longest and first(text))


schemathesis.openapi.format("channel-name", name(255, lambda text: not text.startswith("node:")))
schemathesis.openapi.format("user-name", name(250, lambda text: text[0] not in "~" and "/" not in text))

NUMBERS = itertools.count()
KEY = re.compile(r'("[ !#-\[\]-~]{1,255}"|[!#-\[\]-~]{1,255})')


@schemathesis.hook
def before_call(context, case, kwargs):
    """A good key that came before with another body is refused, and rightly: each request gets one of its own."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = f"key-{next(NUMBERS)}"
