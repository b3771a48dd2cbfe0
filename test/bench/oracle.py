"""What a cache of whole files could have hit: with the future known, and by
recency."""

from collections import OrderedDict


def best(order, room):
    """Whether each access can be a hit if what is needed last goes first
    (and what is needed last of all is not kept)."""
    following, last = [0] * len(order), {}
    for i in range(len(order) - 1, -1, -1):
        following[i] = last.get(order[i], len(order) + i)
        last[order[i]] = i
    cached, hits = {}, []
    for i, item in enumerate(order):
        hits.append(item in cached)
        cached[item] = following[i]
        if len(cached) > room:
            del cached[max(cached, key=cached.get)]
    return hits


def recency(order, room):
    cached, hits = OrderedDict(), []
    for item in order:
        hits.append(item in cached)
        cached[item] = True
        cached.move_to_end(item)
        if len(cached) > room:
            cached.popitem(last=False)
    return hits
