"""The rate of matrix products at the vision tower's shapes, in 8 bits and in f32: what ONNX Runtime gives on one thread.

    python roofline.py [--threads 1] [--rounds 15] [--tokens 193]

Of each block these are queries, keys and values, the attention's output, and both layers of the MLP with the adapter folded in. Products with constant
right sides, unsigned 8-bit left sides and signed right sides, as dynamically quantised towers compute them; quantising itself is not counted.
"""
import argparse
import json
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

SHAPES = [(768, 2304), (768, 768), (768, 3168), (3168, 768)]


def session(inner, outer, tokens, kind, threads):
    left = TensorProto.UINT8 if kind == "int8" else TensorProto.FLOAT
    weights = np.random.default_rng(1).integers(-127, 128, (inner, outer))
    weights = weights.astype(np.int8 if kind == "int8" else np.float32)
    node = helper.make_node("MatMulInteger" if kind == "int8" else "MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", left, [tokens, inner])],
        [helper.make_tensor_value_info("y", TensorProto.INT32 if kind == "int8" else TensorProto.FLOAT, [tokens, outer])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    ran = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(2).integers(0, 256, (tokens, inner)).astype(np.uint8 if kind == "int8" else np.float32)
    return lambda: ran.run(None, {"x": x})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=193)
    args = parser.parse_args()
    work = sum(2 * args.tokens * inner * outer for inner, outer in SHAPES)
    rates = {}
    for kind in ("int8", "f32"):
        runs = [session(inner, outer, args.tokens, kind, args.threads) for inner, outer in SHAPES]
        rates[kind] = []
        for number in range(args.rounds + 1):
            start = time.perf_counter()
            for run in runs:
                run()
            if number:
                rates[kind].append(work / (time.perf_counter() - start) / 1e9)
    said = {kind: {"median": float(np.median(rate)), "min": min(rate), "max": max(rate)} for kind, rate in rates.items()}
    print(json.dumps({"giga_operations_a_second": said, "tokens": args.tokens, "threads": args.threads}))


if __name__ == "__main__":
    main()
