"""Clients over HTTP, many at once."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException

Call = tuple[str, str, bytes]  # method, path, body
LONGEST = 90.0  # seconds, for an answer: more than a request may take


def _client(port: int, calls: Iterator[Call]) -> Counter[str]:
    """Make the calls that no other client has taken, on one connection while it is kept."""
    counts: Counter[str] = Counter()
    with closing(HTTPConnection("127.0.0.1", port, timeout=LONGEST)) as connection:
        for call in calls:
            try:
                connection.request(*call, headers={"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
            except ConnectionRefusedError:
                counts["refused"] += 1
                break  # nobody listens
            except (OSError, HTTPException) as err:
                counts[type(err).__name__] += 1
                connection.close()
                continue
            counts[str(response.status)] += 1
            if response.status >= 500:
                counts[content.decode(errors="replace").split('"code":"')[-1].split('"')[0]] += 1
    return counts


def hammer(port: int, clients: int, calls: Iterable[Call]) -> Counter[str]:
    """Make the calls with so many clients at once, and count the statuses and the codes of 5xx."""
    source = iter(calls)  # those of itertools may be shared by threads
    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(lambda _: _client(port, source), range(clients)), Counter())


def writes(count: int) -> Iterable[Call]:
    """Return calls that create things."""
    return itertools.repeat(("POST", "/things", b'{"title": "one"}'), count)


def mixed(count: int) -> Iterable[Call]:
    """Return reads and writes, half and half."""
    both = (("POST", "/things", b'{"title": "one"}'), ("GET", "/things/1", b""))
    return itertools.islice(itertools.cycle(both), count)
