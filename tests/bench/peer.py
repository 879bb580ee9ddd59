"""What `spotterd bench match` and `bench retro` are compared with: one index of another library.

    peer.py flat|binary|hnsw ITEMS QUERIES SIZE K BATCH

ITEMS and QUERIES are files of f32, rows of SIZE. Says `{"ready": seconds}` once the index is built; for
each line that comes in, searches all queries, BATCH at a time on one thread, and says
`{"ms": milliseconds per batch, "ids": rows of the best K of each query}`.
"""

import json
import sys
import time

import numpy


def flat(items, _queries, k):
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    return lambda batch: index.search(batch, k)[1]


def binary(items, _queries, k):
    """Signs of what is left beyond the mean, by Hamming distance; no second look."""
    import faiss

    faiss.omp_set_num_threads(1)
    centre = items.mean(axis=0)
    bits = lambda rows: numpy.packbits(rows > centre, axis=1)
    index = faiss.IndexBinaryFlat(items.shape[1])
    index.add(bits(items))
    return lambda batch: index.search(bits(batch), k)[1]


def hnsw(items, _queries, k):
    from usearch.index import Index

    index = Index(ndim=items.shape[1], metric="ip", dtype="f32", connectivity=16,
                  expansion_add=128, expansion_search=64)
    index.add(numpy.arange(len(items)), items, threads=0)
    return lambda batch: index.search(batch, k, threads=1).keys.reshape(len(batch), -1)


def main():
    kind, items, queries, size, k, batch = sys.argv[1:]
    size, k, batch = int(size), int(k), int(batch)
    items = numpy.fromfile(items, dtype=numpy.float32).reshape(-1, size)
    queries = numpy.fromfile(queries, dtype=numpy.float32).reshape(-1, size)
    start = time.perf_counter()
    search = {"flat": flat, "binary": binary, "hnsw": hnsw}[kind](items, queries, k)
    print(json.dumps({"ready": time.perf_counter() - start}), flush=True)
    for _ in sys.stdin:
        times, ids = [], []
        for first in range(0, len(queries), batch):
            part = queries[first:first + batch]
            start = time.perf_counter()
            found = search(part)
            times.append(1e3 * (time.perf_counter() - start))
            ids.extend(found.tolist())
        print(json.dumps({"ms": times, "ids": ids}), flush=True)


main()
